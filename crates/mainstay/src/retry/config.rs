//! Settings of retries: how many, and how soon.

use std::time::Duration;

use crate::budget::BudgetConfig;
use crate::config_error::{Check, ConfigError};
use crate::settings::settings;

settings! {
    /// Settings of the retries to one dependency.
    #[derive(Debug, Clone, PartialEq)]
    pub struct RetryConfig {
        /// Attempts in all, the first included; 1 to 10, where 1 never retries. Default 3 (Google SRE Book, AWS SDKs).
        pub max_attempts: u32 = 3,
        /// Ceiling of the first wait; up to 1 min. Default 25 ms, as Envoy.
        pub backoff_base: Duration = Duration::from_millis(25),
        /// Highest ceiling, reached by doubling; `backoff_base` to 10 min. Default 250 ms, as Envoy.
        pub backoff_cap: Duration = Duration::from_millis(250),
        /// Wait when the peer throttles without `Retry-After`; up to 10 min. Default 1 s, as AWS SDKs. The lower half is
        /// always waited, the upper half is random.
        pub throttled_wait: Duration = Duration::from_secs(1),
        /// Time that must remain for the attempt after the wait; up to 10 s. Default 5 ms. With less time left, the call
        /// is not retried.
        pub least_attempt_time: Duration = Duration::from_millis(5),
        /// Budget that all retries and hedges share.
        pub budget: BudgetConfig = BudgetConfig::default(),
    }
}

impl RetryConfig {
    /// Checks every range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let zero = Duration::ZERO;
        let minute = Duration::from_mins(1);
        let mut check = Check::default();
        check.within("retry.max_attempts", &self.max_attempts, 1..=10, "1 to 10");
        check.within("retry.backoff_base", &self.backoff_base, zero..=minute, "at most 1 min");
        let cap = self.backoff_base..=10 * minute;
        check.within("retry.backoff_cap", &self.backoff_cap, cap, "backoff_base to 10 min");
        check.within("retry.throttled_wait", &self.throttled_wait, zero..=10 * minute, "at most 10 min");
        let least = zero..=Duration::from_secs(10);
        check.within("retry.least_attempt_time", &self.least_attempt_time, least, "at most 10 s");
        check.part(self.budget.validate());
        check.finish()
    }
}
