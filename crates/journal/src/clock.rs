//! Wall-clock time in its one home, and the hybrid logical clock that orders entries across services.
//!
//! A hybrid time is milliseconds since 1970 (48 bits) and a counter (16 bits). It never runs backwards in one
//! process, and a message's receiver moves past its sender, so a cause is always before its effect even when
//! the hosts' clocks disagree.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;

use crate::entry::hex;

/// The wall clock, in UTC, cut to microseconds so that text, database and memory agree.
pub fn wall_now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_microsecond(now.microsecond()).unwrap_or(now)
}

/// A point in hybrid time; as text, 16 hex digits (a number this large would not survive JSON).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct HybridTime(u64);

impl HybridTime {
    /// Milliseconds since 1970 of its physical part.
    pub const fn millis(self) -> u64 {
        self.0 >> 16
    }
}

impl fmt::Display for HybridTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0.to_be_bytes()))
    }
}

/// The text is not 16 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hybrid time is 16 lower-case hex digits")]
pub struct InvalidHybridTime;

impl FromStr for HybridTime {
    type Err = InvalidHybridTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain =
            text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !plain {
            return Err(InvalidHybridTime);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| InvalidHybridTime)
    }
}

impl Serialize for HybridTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0.to_be_bytes()))
    }
}

impl TryFrom<String> for HybridTime {
    type Error = InvalidHybridTime;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// This process's hybrid clock. Share one per service.
#[derive(Debug, Default)]
pub struct HybridClock(AtomicU64);

impl HybridClock {
    /// A peer's clock further ahead than this is flagged and not adopted: one wrong host must not drag every
    /// other into the future.
    pub const MAX_AHEAD: Duration = Duration::from_millis(500);

    /// The time of a local event: after every time this clock has given or observed.
    pub fn tick(&self) -> HybridTime {
        self.advance_past(0)
    }

    /// Takes in a peer's time, so that later ticks are after it. Returns whether it was adopted; `false` means
    /// that the peer is more than [`Self::MAX_AHEAD`] ahead.
    pub fn observe(&self, remote: HybridTime) -> bool {
        let limit = wall_millis() + u64::try_from(Self::MAX_AHEAD.as_millis()).unwrap_or(u64::MAX);
        if remote.millis() > limit {
            return false;
        }
        self.advance_past(remote.0);
        true
    }

    fn advance_past(&self, floor: u64) -> HybridTime {
        let physical = wall_millis() << 16;
        let next = |last: u64| physical.max(last.max(floor) + 1);
        let last = self.0.update(Ordering::AcqRel, Ordering::Acquire, next);
        HybridTime(next(last))
    }
}

fn wall_millis() -> u64 {
    u64::try_from(wall_now().unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_only_go_forward_even_within_one_millisecond() {
        let clock = HybridClock::default();
        let times: Vec<_> = (0..10_000).map(|_| clock.tick()).collect();
        assert!(times.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn an_effect_is_after_its_cause_on_a_slower_clock() {
        let clock = HybridClock::default();
        let cause = HybridTime((wall_millis() + 400) << 16 | 7);
        assert!(clock.observe(cause));
        assert!(clock.tick() > cause);
    }

    #[test]
    fn a_clock_far_in_the_future_is_not_adopted() {
        let clock = HybridClock::default();
        let absurd = HybridTime((wall_millis() + 3_600_000) << 16);
        assert!(!clock.observe(absurd));
        assert!(clock.tick() < absurd);
    }

    #[test]
    fn text_round_trips_and_junk_is_refused() {
        let time = HybridClock::default().tick();
        assert_eq!(time.to_string().parse(), Ok(time));
        for bad in ["", "1", "g000000000000000", "0X00000000000000", "+000000000000001", "00000000000000001"]
        {
            assert_eq!(bad.parse::<HybridTime>(), Err(InvalidHybridTime), "{bad}");
        }
    }
}
