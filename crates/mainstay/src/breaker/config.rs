//! When a breaker trips and how it comes back.

use std::time::Duration;

use crate::config_error::{Check, ConfigError};

/// Settings shared by the breakers of one dependency.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerConfig {
    /// The span of time that counts; 1 s to 10 min. Default 10 s: long enough for 20 calls at 2 a second, short
    /// enough that a healed peer's past is soon forgotten.
    pub window: Duration,
    /// Below this many calls in the window no rate is judged; 1 to 10,000. Default 20: with a minimum of 100 in
    /// 30 s (a common default) a client at 3 calls a second never trips at all. As many failures in a row trip it at
    /// any rate: chance alone makes 20 of them once in a million where half of the calls fail.
    pub min_calls: u64,
    /// Failed calls in the window, in per cent, that trip it; 1 to 100. Default 50, as Resilience4j.
    pub failure_percent: u64,
    /// Slow calls in the window, in per cent, that trip it; 1 to 100. Default 50.
    pub slow_percent: u64,
    /// A call that took this long is slow, whatever its answer; from 1 ms. Default 500 ms, half the attempt
    /// timeout: a threshold above the timeout would never be reached. A call that its caller's deadline ends sooner does
    /// not count, so keep this below the shortest deadline that callers usually have. In the assembled stack at most half
    /// of the total timeout.
    pub slow_call: Duration,
    /// This many failures in a row trip it while fewer than `min_calls` are in the window; 1 to 10,000. Default 5,
    /// as Envoy and Finagle.
    pub consecutive_failures: u32,
    /// The shortest it stays open; from 1 ms. Default 500 ms.
    pub open_min: Duration,
    /// The longest it stays open, reached by doubling while probes keep failing; `open_min` to 10 min.
    /// Default 2 s. The wait is drawn from the upper half of the present ceiling (equal jitter), so that clients
    /// do not probe in step.
    pub open_max: Duration,
    /// Calls let through half-open, which must all succeed; 1 to 100. Default 3.
    pub probes: u32,
    /// The most a probe may take; 1 ms to 10 min. Default 500 ms. Short, since a peer that is not well costs every probe
    /// its whole time (Shopify cut the capacity lost to probing from 263 % to 4 % this way).
    pub probe_timeout: Duration,
    /// Time over which traffic grows back from a tenth to all after the probes succeeded; up to 10 min, zero for
    /// none. Default 500 ms.
    pub ramp: Duration,
    /// Endpoints remembered at once; 1 to 100,000. Default 1,024. The least recently used closed one makes room.
    pub max_endpoints: usize,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            min_calls: 20,
            failure_percent: 50,
            slow_percent: 50,
            slow_call: Duration::from_millis(500),
            consecutive_failures: 5,
            open_min: Duration::from_millis(500),
            open_max: Duration::from_secs(2),
            probes: 3,
            probe_timeout: Duration::from_millis(500),
            ramp: Duration::from_millis(500),
            max_endpoints: 1_024,
        }
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
