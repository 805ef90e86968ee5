//! Counts of requests to inventory, from the decisions of the middleware. An attempt that was sent is counted apart from
//! an attempt that this service refused before sending.

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
pub struct Fruitless {
    /// Requests of the try.
    pub requests: Requests,
    /// Reason why the try decided nothing.
    pub why: String,
}

/// The longest stored reason, in characters. A longer one quotes a reply of another program.
const LONGEST_WHY: usize = 300;

impl Fruitless {
    /// A try with its reason. The reason is cut to 300 characters, and U+FFFD replaces control characters, because a
    /// text column does not accept all of them.
    pub fn new(requests: Requests, why: &str) -> Self {
        let why =
            why.chars().take(LONGEST_WHY).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Self { requests, why }
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
        let fruitless = Fruitless::new(Requests::default(), &"\0\u{1b}x".repeat(200));
        assert!(
            fruitless.why.starts_with("\u{fffd}\u{fffd}x") && fruitless.why.chars().count() == LONGEST_WHY
        );
    }
}
