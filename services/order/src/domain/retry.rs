//! The next try of an order after a try that decided nothing: its back-off, and the record that its row keeps.
//!
//! An attempt that was sent is counted apart from an attempt that this service refused before sending.

use mainstay::trail::Decision;

/// Number of requests to inventory, by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Requests that left this service.
    pub sent: u64,
    /// Requests that a breaker, a limit or the deadline refused in this service, before sending.
    pub refused_here: u64,
    /// Requests for which there was no connection.
    pub unconnected: u64,
}

impl Requests {
    /// Counts the requests of `decisions`.
    pub fn counted<'a>(decisions: impl IntoIterator<Item = &'a Decision>) -> Self {
        let mut requests = Self::default();
        for Decision { layer, action, why, .. } in decisions {
            match (&**layer, &**action) {
                // The refusing layer has a decision of its own, which is counted below.
                ("attempt", "rejected-unsent") => {}
                ("attempt", "failed-known") if why.starts_with("no connection to") => {
                    requests.unconnected += 1;
                }
                ("attempt", _) => requests.sent += 1,
                (_, "reject") => requests.refused_here += 1,
                _ => {}
            }
        }
        requests
    }
}

/// A try that decided nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InconclusiveTry {
    /// Requests of the try.
    pub requests: Requests,
    /// Reason why the try decided nothing.
    pub why: String,
}

/// The longest stored reason, in characters. A longer one quotes a reply of another program.
const LONGEST_WHY: usize = 300;

impl InconclusiveTry {
    /// A try with its reason. The reason is cut to 300 characters, and U+FFFD replaces control characters, because a
    /// text column does not accept all of them.
    pub fn new(requests: Requests, why: &str) -> Self {
        let why =
            why.chars().take(LONGEST_WHY).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Self { requests, why }
    }
}

/// The time of the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Number of tries that failed while inventory served other orders, the last one included.
    pub failed_alone: i32,
    /// Back-off, in milliseconds.
    pub backoff_ms: i64,
}

/// Tries after which the wait is a second, and from which on an order can be found to fail alone.
const QUICK_TRIES: i32 = 4;

/// The longest back-off of an order that fails while others are served, in milliseconds.
const LONGEST_MS: i64 = 30_000;

/// The longest wait, in milliseconds, of a reserved order whose reservation ended without it.
const MISMATCH_MS: i64 = 300_000;

impl Retry {
    /// For an order that has had `tries` tries, of which `failed_alone` failed alone. `failed_beside_others` is true if the
    /// cause of the last failure is in its request, and inventory served other orders.
    ///
    /// The back-off is 100, 200, 400 … at most 1,000 ms, so that no order waits longer than a second once inventory is
    /// back. For an order that failed alone it is 1, 2, 4 … at most 30 s. The upper half is scaled by `random`, so that
    /// orders that failed together are not tried again together.
    pub fn after(tries: i32, failed_alone: i32, failed_beside_others: bool, random: u8) -> Self {
        let is_alone = failed_beside_others && tries >= QUICK_TRIES;
        let failed_alone = failed_alone.saturating_add(i32::from(is_alone));
        let doubled = |ms: i64, times: i32| ms << times.clamp(0, 5);
        let full = if is_alone {
            doubled(1_000, failed_alone - 1).min(LONGEST_MS)
        } else {
            doubled(100, tries).min(1_000)
        };
        Self { failed_alone, backoff_ms: full / 2 + full / 2 * i64::from(random) / 255 }
    }

    /// For a reserved order whose reservation ended without it: asking again seldom helps, so the wait grows to minutes.
    pub fn of_mismatch(tries: i32, failed_alone: i32) -> Self {
        let doubled = 1_000_i64 << tries.clamp(0, 9);
        Self { failed_alone, backoff_ms: doubled.min(MISMATCH_MS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(layer: &'static str, action: &'static str, why: &'static str) -> Decision {
        Decision {
            layer: layer.into(),
            action: action.into(),
            why: why.into(),
            attempt: 1,
            endpoint: None,
            deadline_left_ms: None,
            at_ms: 0,
        }
    }

    #[test]
    fn requests_refused_by_an_open_breaker_are_not_counted_as_sent() {
        let decisions = [
            decision("circuit_breaker", "reject", "open for another 974 ms"),
            decision("attempt_timeout", "reject", "no time is left to begin"),
            decision("attempt", "rejected-unsent", "0 ms left before the deadline"),
            decision("attempt", "failed-known", "no connection to 127.0.0.1:1: Connection refused"),
            decision("attempt", "failed-known", "503 overloaded"),
            decision("retry", "retry", "after 20 ms"),
            decision("attempt", "success", "replied"),
        ];
        assert_eq!(Requests::counted(&decisions), Requests { sent: 2, refused_here: 2, unconnected: 1 });
    }

    #[test]
    fn a_reason_that_quotes_a_hostile_reply_can_be_written() {
        let inconclusive = InconclusiveTry::new(Requests::default(), &"\0\u{1b}x".repeat(200));
        assert!(
            inconclusive.why.starts_with("\u{fffd}\u{fffd}x")
                && inconclusive.why.chars().count() == LONGEST_WHY
        );
    }

    #[test]
    fn the_back_off_grows_beyond_a_second_only_for_an_order_that_fails_alone() {
        let waits = |tries, failed_alone, beside_others| {
            [0, 255].map(|random| Retry::after(tries, failed_alone, beside_others, random).backoff_ms)
        };
        for (tries, full) in [(0, 100), (3, 800), (4, 1_000), (1_000, 1_000)] {
            assert_eq!(waits(tries, 7, false), [full / 2, full], "{tries}");
        }
        for (failed_alone, full) in [(0, 1_000), (1, 2_000), (4, 16_000), (i32::MAX, LONGEST_MS)] {
            assert_eq!(waits(9, failed_alone, true), [full / 2, full], "{failed_alone}");
        }
        assert_eq!(waits(QUICK_TRIES - 1, 0, true), [400, 800], "the first tries of an order are quick");
    }
}
