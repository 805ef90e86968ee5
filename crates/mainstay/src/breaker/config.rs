//! Settings of a breaker: when it opens, and how it closes again.

use std::time::Duration;

use crate::config_error::{Check, ConfigError};
use crate::settings::settings;

settings! {
    /// Settings that the breakers of one dependency share.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BreakerConfig {
        /// Length of the sliding window; 1 s to 10 min. Default 10 s: it holds 20 calls at 2 calls a second, and it soon
        /// forgets the failures of a peer that has recovered.
        pub window: Duration = Duration::from_secs(10),
        /// Calls in the window below which no rate is judged; 1 to 10,000. Default 20: with a minimum of 100 calls in 30
        /// s (a common default) a client at 3 calls a second never opens the breaker. This many failures in a row also
        /// open it, at any call rate: where half of the calls fail, 20 failures in a row happen by chance once in a
        /// million.
        pub min_calls: u64 = 20,
        /// Failed calls in the window, in per cent, that open the breaker; 1 to 100. Default 50, as Resilience4j.
        pub failure_percent: u64 = 50,
        /// Slow calls in the window, in per cent, that open the breaker; 1 to 100. Default 50.
        pub slow_percent: u64 = 50,
        /// Duration from which a call is slow, whatever its answer; at least 1 ms. Default 500 ms, half the attempt
        /// timeout: a threshold above the timeout could not be reached. A call that its caller's deadline ends sooner
        /// does not count, so keep this value below the shortest deadline that callers usually have. In the assembled
        /// stack it is at most half of the total timeout.
        pub slow_call: Duration = Duration::from_millis(500),
        /// Failures in a row that open the breaker while the window holds fewer than `min_calls`; 1 to 10,000. Default 5,
        /// as Envoy and Finagle.
        pub consecutive_failures: u32 = 5,
        /// Shortest time that the breaker stays open; at least 1 ms. Default 500 ms.
        pub open_min: Duration = Duration::from_millis(500),
        /// Longest time that the breaker stays open; `open_min` to 10 min. Default 2 s. The ceiling doubles up to this
        /// value while probes keep failing. The wait is drawn from the upper half of the current ceiling (equal jitter),
        /// so that clients do not all probe at the same time.
        pub open_max: Duration = Duration::from_secs(2),
        /// Probes in one half-open period, which must all succeed; 1 to 100. Default 3.
        pub probes: u32 = 3,
        /// Timeout of a probe; 1 ms to 10 min. Default 500 ms. It is short because a sick peer makes every probe wait for
        /// its whole timeout. Shopify cut the capacity lost to probing from 263 % to 4 % with a short timeout.
        pub probe_timeout: Duration = Duration::from_millis(500),
        /// Time in which traffic grows from a tenth to all of it after the probes succeeded; up to 10 min, zero for no
        /// ramp. Default 500 ms.
        pub ramp: Duration = Duration::from_millis(500),
        /// Endpoints with a breaker at the same time; 1 to 100,000. Default 1,024. A new endpoint evicts the least
        /// recently used closed breaker.
        pub max_endpoints: usize = 1_024,
    }
}

impl BreakerConfig {
    /// Checks every range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (least, most) = (Duration::from_millis(1), Duration::from_mins(10));
        let mut check = Check::default();
        check.within("breaker.window", &self.window, Duration::from_secs(1)..=most, "1 s to 10 min");
        check.within("breaker.min_calls", &self.min_calls, 1..=10_000, "1 to 10,000");
        check.within("breaker.failure_percent", &self.failure_percent, 1..=100, "1 to 100");
        check.within("breaker.slow_percent", &self.slow_percent, 1..=100, "1 to 100");
        check.that(self.slow_call >= least, "breaker.slow_call", &self.slow_call, "at least 1 ms");
        let consecutive = &self.consecutive_failures;
        check.within("breaker.consecutive_failures", consecutive, 1..=10_000, "1 to 10,000");
        check.that(self.open_min >= least, "breaker.open_min", &self.open_min, "at least 1 ms");
        check.within("breaker.open_max", &self.open_max, self.open_min..=most, "open_min to 10 min");
        check.within("breaker.probes", &self.probes, 1..=100, "1 to 100");
        check.within("breaker.probe_timeout", &self.probe_timeout, least..=most, "1 ms to 10 min");
        check.that(self.ramp <= most, "breaker.ramp", &self.ramp, "at most 10 min");
        check.within("breaker.max_endpoints", &self.max_endpoints, 1..=100_000, "1 to 100,000");
        check.finish()
    }
}
