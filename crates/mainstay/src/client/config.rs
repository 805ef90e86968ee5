//! Settings of a client stack, with defaults that suit most dependencies.

use std::time::Duration;

use crate::breaker::BreakerConfig;
use crate::config_error::{Check, ConfigError, PEER};
use crate::hedge::HedgeConfig;
use crate::retry::RetryConfig;
use crate::settings::settings;
use crate::throttle::ThrottleConfig;

settings! {
    /// Settings of one client stack, which serves one dependency. Everything is per dependency, except the breaker, which
    /// is per endpoint.
    #[derive(Debug, Clone)]
    pub struct ClientConfig {
        /// Name of the dependency in metrics, events and errors: 1 to 64 characters of `A-Za-z0-9._-`. Default `peer`.
        pub peer: String = "peer".to_owned(),
        /// Timeout of a whole call, retries and waits included; 1 ms to 10 min. The caller's deadline can only shorten
        /// it. Default 2 s: the time that a person still waits for (the edge default of this project's contract).
        pub total_timeout: Duration = Duration::from_secs(2),
        /// Time kept back from the caller's deadline for this hop's own work after the call; up to 10 s. Default 50 ms: a
        /// local database transaction at its 99.9th percentile.
        pub reserve: Duration = Duration::from_millis(50),
        /// Timeout of one attempt, connecting and reading the body included; 1 ms to 10 min, and not above
        /// `total_timeout`. Default 1 s. A better value is the dependency's own 99.9th percentile, which wastes one
        /// attempt in a thousand (Amazon Builders' Library, "Timeouts, retries and backoff with jitter").
        pub attempt_timeout: Duration = Duration::from_secs(1),
        /// Shortest time for an attempt; up to 10 s. Default 5 ms: a round trip within one site with time for the work.
        /// An attempt with less time does not begin.
        pub least_attempt_time: Duration = Duration::from_millis(5),
        /// Retries and their budget.
        pub retry: RetryConfig = RetryConfig::default(),
        /// Hedging of slow reads; `None` (default) disables it.
        pub hedge: Option<HedgeConfig> = None,
        /// Throttling while the peer sheds.
        pub throttle: ThrottleConfig = ThrottleConfig::default(),
        /// Circuit breaker, one per endpoint.
        pub breaker: BreakerConfig = BreakerConfig::default(),
        /// Limit of calls to the dependency in flight; 1 to 1,000,000. Default 256. A better value is its capacity less a
        /// reserve, or Little's law: peak rate times attempt timeout.
        pub max_in_flight: usize = 256,
        /// Seed for jitter; `None` (default) takes a random seed from the operating system.
        pub seed: Option<u64> = None,
        /// Registry of injected faults, and the name of this fault point in it; `None` (default) injects nothing.
        #[cfg(feature = "faults")]
        pub faults: Option<(crate::fault::Faults, String)> = None,
    }
}

impl ClientConfig {
    /// The default settings for the dependency of this name.
    pub fn new(peer: impl Into<String>) -> Self {
        Self { peer: peer.into(), ..Self::default() }
    }

    /// Checks every range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (zero, millisecond) = (Duration::ZERO, Duration::from_millis(1));
        let (seconds_10, minutes_10) = (Duration::from_secs(10), Duration::from_mins(10));
        let mut check = Check::default();
        check.that(crate::CorrelationId::parse(&self.peer).is_ok(), "peer", &self.peer, PEER);
        check.within("total_timeout", &self.total_timeout, millisecond..=minutes_10, "1 ms to 10 min");
        let attempt = millisecond..=self.total_timeout.min(minutes_10);
        check.within("attempt_timeout", &self.attempt_timeout, attempt, "1 ms to total_timeout");
        check.within("reserve", &self.reserve, zero..=seconds_10, "at most 10 s");
        let least = zero..=self.attempt_timeout.min(seconds_10);
        check.within(
            "least_attempt_time",
            &self.least_attempt_time,
            least,
            "at most attempt_timeout, and at most 10 s",
        );
        check.within("max_in_flight", &self.max_in_flight, 1..=1_000_000, "1 to 1,000,000");
        check.part(self.retry.validate());
        if let Some(hedge) = &self.hedge {
            check.part(hedge.validate());
            let in_time = hedge.least_delay < self.attempt_timeout;
            check.that(in_time, "hedge.least_delay", &hedge.least_delay, "shorter than attempt_timeout");
        }
        check.part(self.throttle.validate());
        check.part(self.breaker.validate());
        check.finish()
    }
}
