//! How often and how soon to try again.

use std::time::Duration;

use crate::budget::BudgetConfig;
use crate::config_error::{ConfigError, check};

/// Settings of the retries to one dependency.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryConfig {
    /// Attempts in all, the first included; 1 to 10, where 1 never retries. Default 3 (Google SRE Book, AWS SDKs).
    pub max_attempts: u32,
    /// The first wait's ceiling; up to 1 min. Default 25 ms, as Envoy.
    pub backoff_base: Duration,
    /// The highest ceiling, reached by doubling; `backoff_base` to 10 min. Default 250 ms, as Envoy.
    pub backoff_cap: Duration,
    /// The wait, of which the lower half is certain, when the peer throttles and does not say for how long; up to
    /// 10 min. Default 1 s, as AWS SDKs.
    pub throttled_wait: Duration,
    /// Time that must be left for the attempt after the wait; up to 10 s. Default 5 ms. With less, no wait is begun.
    pub least_attempt_time: Duration,
    /// What all retries and hedges together may add.
    pub budget: BudgetConfig,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff_base: Duration::from_millis(25),
            backoff_cap: Duration::from_millis(250),
            throttled_wait: Duration::from_secs(1),
            least_attempt_time: Duration::from_millis(5),
            budget: BudgetConfig::default(),
        }
    }
}

impl RetryConfig {
    /// Checks every range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check((1..=10).contains(&self.max_attempts), "retry.max_attempts", "1 to 10")?;
        let minute = Duration::from_mins(1);
        check(self.backoff_base <= minute, "retry.backoff_base", "at most 1 min")?;
        let cap = self.backoff_base..=10 * minute;
        check(cap.contains(&self.backoff_cap), "retry.backoff_cap", "backoff_base to 10 min")?;
        check(self.throttled_wait <= 10 * minute, "retry.throttled_wait", "at most 10 min")?;
        let least = self.least_attempt_time <= Duration::from_secs(10);
        check(least, "retry.least_attempt_time", "at most 10 s")?;
        self.budget.validate()
    }
}
