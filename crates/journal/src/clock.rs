//! The wall clock, read here only, and the hybrid logical clock that orders entries across services.
//!
//! A hybrid time is milliseconds since 1970 (48 bits) and a counter (16 bits). It never runs backwards in one
//! process, and the receiver of a message moves its clock past the sender's, so a cause is before its effect even when the
//! hosts' clocks differ. It gives the order of entries and not the time of day: after a message from a host whose clock is a
//! day ahead, hybrid times stay ahead until the wall clocks have caught up.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;

/// The time of the wall clock in UTC, cut to microseconds so that text, database and memory agree.
pub fn wall_now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_microsecond(now.microsecond()).unwrap_or(now)
}

/// A point in hybrid time. Its text has 16 hex digits, because many readers of JSON round numbers of this size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct HybridTime(u64);

impl HybridTime {
    /// Milliseconds since 1970: the physical part.
    pub const fn millis(self) -> u64 {
        self.0 >> 16
    }
}

impl fmt::Display for HybridTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Error for a text that is not 16 lower-case hex digits.
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
        serializer.collect_str(self)
    }
}

impl TryFrom<String> for HybridTime {
    type Error = InvalidHybridTime;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Hybrid clock of a process. All parts of a service share one.
#[derive(Debug, Default)]
pub struct HybridClock(AtomicU64);

impl HybridClock {
    /// First hybrid time that is not adopted: the year 10000, which no clock of a running host shows. After the latest time
    /// below it 10^18 events still fit into 64 bits, so no peer can bring this clock to its end.
    pub const LIMIT: HybridTime = HybridTime(253_402_300_800_000 << 16);

    /// Returns the time of a local event, later than every time that this clock has given or observed.
    pub fn tick(&self) -> HybridTime {
        self.advance_past(0).1
    }

    /// Adopts a time of another process or of the journal, so that later ticks are after it. Returns by how many milliseconds it
    /// was ahead of this host's wall clock; 0 if this clock was past it already.
    ///
    /// An offset of any size is adopted: an effect before its cause would stay in the journal for ever, and a hybrid clock that
    /// is ahead of the wall clock does no harm. Times from [`Self::LIMIT`] on are garbage and are not adopted.
    pub fn observe(&self, remote: HybridTime) -> u64 {
        let ahead = remote.millis().saturating_sub(wall_millis());
        if remote >= Self::LIMIT {
            return ahead;
        }
        let (before, _) = self.advance_past(remote.0);
        if remote > before { ahead } else { 0 }
    }

    /// Moves the clock past `floor`, and returns the times before and after.
    fn advance_past(&self, floor: u64) -> (HybridTime, HybridTime) {
        let physical = wall_millis() << 16;
        let next = |last: u64| physical.max(last.max(floor).saturating_add(1));
        let last = self.0.update(Ordering::AcqRel, Ordering::Acquire, next);
        (HybridTime(last), HybridTime(next(last)))
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
    fn an_effect_is_after_its_cause_however_far_ahead_the_causes_host_is() {
        for ahead in [400, 3_600_000, 86_400_000, 50 * 365 * 86_400_000] {
            let clock = HybridClock::default();
            let cause = HybridTime((wall_millis() + ahead) << 16 | 7);
            assert!(clock.observe(cause).abs_diff(ahead) < 60_000, "{ahead} ms");
            assert!(clock.tick() > cause, "{ahead} ms");
            assert_eq!(clock.observe(cause), 0, "it was adopted already");
        }
    }

    #[test]
    fn a_time_of_the_past_moves_nothing_back() {
        let clock = HybridClock::default();
        let before = clock.tick();
        assert_eq!(clock.observe(HybridTime((wall_millis() - 3_600_000) << 16)), 0);
        assert!(clock.tick() > before);
    }

    #[test]
    fn garbage_does_not_bring_the_clock_to_its_end() {
        let clock = HybridClock::default();
        let last = HybridTime(HybridClock::LIMIT.0 - 1);
        for garbage in [HybridTime(u64::MAX), HybridClock::LIMIT] {
            clock.observe(garbage);
            assert!(clock.tick() < last);
        }
        clock.observe(last);
        let times: Vec<_> = (0..1_000).map(|_| clock.tick()).collect();
        assert!(times[0] > last && times.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(
            HybridClock(AtomicU64::new(u64::MAX)).tick(),
            HybridTime(u64::MAX),
            "it stands still and does not wrap"
        );
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
