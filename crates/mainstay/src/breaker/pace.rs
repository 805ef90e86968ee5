//! The length of the open period and the pace of the ramp. Pure arithmetic: the random source is passed in.

use std::time::Duration;

use super::BreakerConfig;
use crate::random::Random;

/// The length of the next open period. Equal jitter: drawn from the upper half of a ceiling that doubles from `2 *
/// open_min` to `open_max`.
pub(super) fn open_wait(reopened: u32, config: &BreakerConfig, random: &Random) -> Duration {
    let doubled =
        config.open_min.saturating_mul(2).saturating_mul(1_u32.checked_shl(reopened).unwrap_or(u32::MAX));
    let ceiling = doubled.min(config.open_max).max(config.open_min);
    let half = ceiling / 2;
    (half + random.up_to(ceiling.saturating_sub(half))).max(config.open_min)
}

/// Whether the ramp has room for this call. The admitted share grows evenly from a tenth to all. The first few calls
/// always pass, so that a client with few calls is not refused for lack of numbers.
pub(super) fn ramp_admits(asked: u64, admitted: u64, left: Duration, config: &BreakerConfig) -> bool {
    let (left, whole) = (left.as_nanos(), config.ramp.as_nanos());
    // share = 0.1 + 0.9 * (whole - left) / whole, kept in integers.
    let share_times_10_whole = whole + 9 * whole.saturating_sub(left);
    let first = u128::from(config.probes);
    u128::from(admitted).saturating_sub(first) * 10 * whole
        < u128::from(asked).saturating_sub(first) * share_times_10_whole
        || u128::from(admitted) < first
}
