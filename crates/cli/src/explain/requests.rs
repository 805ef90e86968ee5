//! Requests to inventory, counted from the decisions that an entry keeps: sent, refused here before sending, and without
//! a connection. A try that decided nothing leaves no entry; such tries are counted apart.

use std::fmt;
use std::ops::AddAssign;

use journal::Entry;
use serde::Serialize;
use serde_json::Value;

/// The trail keeps so many decisions; a full one may have lost some.
const TRAIL_FULL: usize = 64;

/// The requests of one entry, or of a whole story.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Requests {
    /// Requests that left this service.
    pub(crate) sent: u64,
    /// Requests that a breaker, a limit or the deadline refused here, unsent.
    pub(crate) refused_here: u64,
    /// Requests for which there was no connection.
    pub(crate) unconnected: u64,
    /// Tries before the recorded one, of which no decisions are on record.
    pub(crate) tries_without_record: u64,
    /// Tries since the last definite answer, the recorded one included.
    #[serde(skip)]
    pub(super) tries: u64,
    /// A trail was full, so that there may be more of each.
    pub(crate) is_cut: bool,
}

impl Requests {
    pub(crate) fn of(entry: &Entry) -> Self {
        let decisions = entry.evidence.get("decisions").and_then(Value::as_array);
        let decisions = decisions.map_or(&[][..], Vec::as_slice);
        let mut requests = Self { is_cut: decisions.len() >= TRAIL_FULL, ..Self::default() };
        for decision in decisions {
            let word = |name: &str| decision.get(name).and_then(Value::as_str).unwrap_or_default();
            match (word("layer"), word("action")) {
                // The layer that refused it has said so itself.
                ("attempt", "rejected-unsent") => {}
                ("attempt", "failed-known") if word("why").starts_with("no connection to") => {
                    requests.unconnected += 1;
                }
                ("attempt", _) => requests.sent += 1,
                (_, "reject") => requests.refused_here += 1,
                _ => {}
            }
        }
        let tries = entry.evidence.get("tries").and_then(Value::as_u64).unwrap_or(0);
        requests.tries = tries;
        requests.tries_without_record = tries.saturating_sub(1);
        requests
    }

    pub(crate) fn is_none(&self) -> bool {
        Self { tries: 0, ..*self } == Self::default()
    }

    /// Whether there is more to say than that one request was sent.
    pub(super) fn is_remarkable(&self) -> bool {
        !self.is_none() && Self { tries: 0, ..*self } != Self { sent: 1, ..Self::default() }
    }
}

impl AddAssign for Requests {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.refused_here += other.refused_here;
        self.unconnected += other.unconnected;
        self.tries_without_record += other.tries_without_record;
        self.tries += other.tries;
        self.is_cut |= other.is_cut;
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_least = if self.is_cut { "at least " } else { "" };
        write!(
            f,
            "{at_least}{} sent, {at_least}{} refused here before sending",
            self.sent, self.refused_here
        )?;
        if self.unconnected > 0 {
            write!(f, ", {} without a connection", self.unconnected)?;
        }
        Ok(())
    }
}

/// The tries before the one that an entry records. Until an outcome is unknown, an earlier try without an entry was not
/// executed, since any other answer is recorded.
pub(super) fn earlier_tries(entry: &Entry, requests: Requests) -> Option<String> {
    let n = requests.tries_without_record;
    if n == 0 {
        return None;
    }
    Some(if entry.from.ends_with("_unknown") {
        format!(
            "try {}: of the {n} before it only the first unknown one is on record; the log of the order service has the others",
            n + 1
        )
    } else {
        format!(
            "try {}: the {n} before it were not executed: refused here unsent, without a connection, or refused by \
             inventory before it did anything",
            n + 1
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::timeline::tests::lost_reply;
    use super::*;

    fn entry(evidence: Value) -> Entry<'static> {
        let (_, recorded) = lost_reply()[3].recorded();
        Entry { evidence, from: "reserving".into(), ..recorded.entry }
    }

    #[test]
    fn requests_refused_by_an_open_breaker_are_not_counted_as_sent() {
        let decision =
            |layer: &str, action: &str, why: &str| json!({"layer": layer, "action": action, "why": why});
        let entry = entry(json!({"decisions": [
            decision("circuit_breaker", "reject", "open, for another 974 ms"),
            decision("attempt_timeout", "reject", "no time is left to begin"),
            decision("attempt", "rejected-unsent", "0 ms left before the deadline"),
            decision("attempt", "failed-known", "no connection to 127.0.0.1:1: Connection refused"),
            decision("attempt", "failed-known", "503 overloaded"),
            decision("retry", "retry", "after 20 ms"),
            decision("attempt", "success", "replied"),
        ]}));
        let requests = Requests::of(&entry);
        let expected = Requests { sent: 2, refused_here: 2, unconnected: 1, ..Requests::default() };
        assert_eq!(requests, expected);
        assert_eq!(requests.to_string(), "2 sent, 2 refused here before sending, 1 without a connection");
    }

    #[test]
    fn a_try_without_an_entry_is_said_not_to_have_been_executed_and_never_to_have_been_sent() {
        let sent = json!({"layer": "attempt", "action": "success", "why": "replied"});
        let mut entry = entry(json!({"decisions": [sent], "tries": 2}));
        let requests = Requests::of(&entry);
        assert_eq!((requests.sent, requests.tries_without_record), (1, 1));
        assert!(earlier_tries(&entry, requests).unwrap().contains("the 1 before it were not executed"));
        entry.from = "reserve_unknown".into();
        assert!(
            earlier_tries(&entry, requests).unwrap().contains("the log of the order service has the others")
        );
    }
}
