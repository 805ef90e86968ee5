//! Settings of a throttle.

use std::time::Duration;

use crate::config_error::{Check, ConfigError};
use crate::settings::settings;

settings! {
    /// Settings of the throttle.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ThrottleConfig {
        /// Time without a throttled call after which the debt is cleared; 1 s to 10 min. Default 1 s, the time that a
        /// shed client is asked to wait (`Retry-After: 1`).
        pub window: Duration = Duration::from_secs(1),
        /// K, in tenths: calls are held back once fewer than one in K is accepted; 11 to 100. Default 20, which is half.
        pub multiplier_tenths: u64 = 20,
        /// Highest share of calls held back, in per cent; 1 to 99. Default 90, so that some calls always reach the peer.
        pub most_percent: u64 = 90,
        /// Throttled calls, beyond those that accepted calls balance, before any call is held back; 1 to 10,000. Default
        /// 20, the number of calls that the breaker needs to judge.
        pub min_calls: u64 = 20,
    }
}

impl ThrottleConfig {
    /// Checks every range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let window = Duration::from_secs(1)..=Duration::from_mins(10);
        let mut check = Check::default();
        check.within("throttle.window", &self.window, window, "1 s to 10 min");
        check.within("throttle.multiplier_tenths", &self.multiplier_tenths, 11..=100, "11 to 100");
        check.within("throttle.most_percent", &self.most_percent, 1..=99, "1 to 99");
        check.within("throttle.min_calls", &self.min_calls, 1..=10_000, "1 to 10,000");
        check.finish()
    }
}
