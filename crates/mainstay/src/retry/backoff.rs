//! The wait before the next attempt. Pure arithmetic: the random source is passed in.

use std::time::Duration;

use super::RetryConfig;
use crate::Outcome;
use crate::random::Random;

/// The wait before retry number `retry` (from 0).
///
/// Full jitter: the wait is drawn between zero and the ceiling. The ceiling is capped *before* the draw, so that
/// waits at the cap stay spread out. A time that the peer asked for in `Retry-After` is waited in full, and the
/// jitter is added to it. A peer that throttles without `Retry-After` gets at least half of
/// [`RetryConfig::throttled_wait`].
pub(crate) fn wait(
    retry: u32,
    outcome: Outcome,
    retry_after: Option<Duration>,
    config: &RetryConfig,
    random: &Random,
) -> Duration {
    let jitter = random.up_to(ceiling(retry, config));
    match (retry_after, outcome) {
        (Some(asked), _) => asked.saturating_add(jitter),
        (None, Outcome::Throttled) => {
            let half = config.throttled_wait / 2;
            half + random.up_to(config.throttled_wait.saturating_sub(half))
        }
        (None, _) => jitter,
    }
}

/// `base`, doubled for each retry already made, at most `cap`.
pub(crate) fn ceiling(retry: u32, config: &RetryConfig) -> Duration {
    let factor = 1_u32.checked_shl(retry).unwrap_or(u32::MAX);
    config.backoff_base.saturating_mul(factor).min(config.backoff_cap)
}

#[cfg(test)]
mod tests;
