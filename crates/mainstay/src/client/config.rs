//! What a client stack can be told, with defaults that need no telling.

use std::time::Duration;

use crate::breaker::BreakerConfig;
use crate::config_error::{ConfigError, check};
use crate::hedge::HedgeConfig;
use crate::retry::RetryConfig;
use crate::throttle::ThrottleConfig;

/// Settings of one client stack, that is of one dependency. Everything in it is per dependency, except the breaker,
/// which is per endpoint.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The dependency's name in metrics, events and errors: 1 to 64 characters of `A-Za-z0-9._-`. Default `peer`.
    pub peer: String,
    /// The most a whole call may take, retries and waits included; 1 ms to 10 min. The caller's deadline can only
    /// shorten it. Default 2 s: what a person still waits for (the edge default of this project's contract).
    pub total_timeout: Duration,
    /// Kept back from the caller's deadline for this hop's own work after the call; up to 10 s. Default 50 ms: a
    /// local database transaction at its 99.9th percentile.
    pub reserve: Duration,
    /// The most one attempt may take, connecting and reading the body included; 1 ms to 10 min, and not above
    /// `total_timeout`. Default 1 s. Better: the dependency's own 99.9th percentile, which wastes one attempt in a
    /// thousand (Amazon Builders' Library, "Timeouts, retries and backoff with jitter").
    pub attempt_timeout: Duration,
    /// An attempt with less time than this is not begun; up to 10 s. Default 5 ms: a round trip within one site
    /// with room for the work.
    pub least_attempt_time: Duration,
    /// Retries and their budget.
    pub retry: RetryConfig,
    /// Asking slow reads once more; `None` (default) never does.
    pub hedge: Option<HedgeConfig>,
    /// Holding back while the peer sheds.
    pub throttle: ThrottleConfig,
    /// Circuit breaker, one per endpoint.
    pub breaker: BreakerConfig,
    /// Calls to the dependency in flight at once; 1 to 1,000,000. Default 256. Better: its capacity less a reserve,
    /// or Little's law: peak rate times attempt timeout.
    pub max_in_flight: usize,
    /// Seeds jitter; `None` (default) takes the operating system's randomness.
    pub seed: Option<u64>,
    /// Where injected faults are looked up, and under which name; `None` (default) injects nothing.
    #[cfg(feature = "faults")]
    pub faults: Option<(crate::fault::Faults, String)>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            peer: "peer".to_owned(),
            total_timeout: Duration::from_secs(2),
            reserve: Duration::from_millis(50),
            attempt_timeout: Duration::from_secs(1),
            least_attempt_time: Duration::from_millis(5),
            retry: RetryConfig::default(),
            hedge: None,
            throttle: ThrottleConfig::default(),
            breaker: BreakerConfig::default(),
            max_in_flight: 256,
            seed: None,
            #[cfg(feature = "faults")]
            faults: None,
        }
    }
}

const MINUTES_10: Duration = Duration::from_mins(10);

impl ClientConfig {
    /// The defaults, for the dependency of this name.
    pub fn new(peer: impl Into<String>) -> Self {
        Self { peer: peer.into(), ..Self::default() }
    }

    /// Checks every range; the first setting that is out of its own is named.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(crate::CorrelationId::parse(&self.peer).is_ok(), "peer", "1 to 64 characters of A-Za-z0-9._-")?;
        let millisecond = Duration::from_millis(1);
        let span = millisecond..=MINUTES_10;
        check(span.contains(&self.total_timeout), "total_timeout", "1 ms to 10 min")?;
        check(span.contains(&self.attempt_timeout), "attempt_timeout", "1 ms to 10 min")?;
        check(self.attempt_timeout <= self.total_timeout, "attempt_timeout", "at most total_timeout")?;
        check(self.reserve <= Duration::from_secs(10), "reserve", "at most 10 s")?;
        check(self.least_attempt_time <= Duration::from_secs(10), "least_attempt_time", "at most 10 s")?;
        check(
            self.least_attempt_time <= self.attempt_timeout,
            "least_attempt_time",
            "at most attempt_timeout",
        )?;
        check((1..=1_000_000).contains(&self.max_in_flight), "max_in_flight", "1 to 1,000,000")?;
        self.retry.validate()?;
        if let Some(hedge) = &self.hedge {
            hedge.validate()?;
            let in_time = hedge.least_delay < self.attempt_timeout;
            check(in_time, "hedge.least_delay", "shorter than attempt_timeout")?;
        }
        self.throttle.validate()?;
        self.breaker.validate()
    }
}
