//! Requests to inventory, counted from the decisions that an entry keeps: sent, refused here before sending, and
//! without a connection. A try that decided nothing leaves no entry; such tries are counted separately.

use std::fmt;
use std::ops::AddAssign;

use journal::Entry;
use mainstay::DecisionTrail;
use mainstay::trail::Decision;
use order_service::domain::retry::Requests as Counted;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The requests of one entry, or of a whole story.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Requests {
    /// Requests that left this service.
    pub(crate) sent: u64,
    /// Requests that a breaker, a limit or the deadline refused here, unsent.
    pub(crate) refused_here: u64,
    /// Requests that found no connection.
    pub(crate) unconnected: u64,
    /// Tries that have no entry because nothing was executed: refused here, without a connection, or refused by
    /// inventory before it did anything.
    pub(crate) tries_not_executed: u64,
    /// Other tries that have no entry, because they left the outcome as unknown as it was.
    pub(crate) tries_unrecorded: u64,
    /// Tries since the last definite answer, the recorded one included.
    #[serde(skip)]
    pub(super) tries: u64,
    /// True if a trail was full, or one of its decisions could not be read, so that the true counts may be higher.
    pub(crate) is_cut: bool,
}

impl Requests {
    pub(crate) fn of(entry: &Entry) -> Self {
        let decisions = entry.evidence.get("decisions").and_then(Value::as_array);
        let decisions = decisions.map_or(&[][..], Vec::as_slice);
        // A decision of another shape, from another release, is skipped.
        let readable: Vec<Decision> =
            decisions.iter().filter_map(|decision| Decision::deserialize(decision).ok()).collect();
        let counted = Counted::counted(&readable);
        let mut requests = Self {
            sent: counted.sent,
            refused_here: counted.refused_here,
            unconnected: counted.unconnected,
            is_cut: decisions.len() >= DecisionTrail::MAX || readable.len() < decisions.len(),
            ..Self::default()
        };
        let tries = entry.evidence.get("tries").and_then(Value::as_u64).unwrap_or(0);
        requests.tries = tries;
        // Before the outcome is unknown, a try that may have been executed has an entry.
        let earlier = tries.saturating_sub(1);
        if entry.from.ends_with("_unknown") {
            requests.tries_unrecorded = earlier;
        } else {
            requests.tries_not_executed = earlier;
        }
        requests
    }

    /// Adds the requests of tries without an entry, which the order's row has counted.
    pub(super) fn with(self, counted: WithoutEntry) -> Self {
        Self {
            sent: self.sent + counted.sent,
            refused_here: self.refused_here + counted.refused_here,
            unconnected: self.unconnected + counted.unconnected,
            tries_not_executed: 0,
            tries_unrecorded: 0,
            ..self
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        Self { tries: 0, ..*self } == Self::default()
    }

    /// Returns whether more is known than that one request was sent.
    pub(super) fn is_remarkable(&self) -> bool {
        !self.is_none() && Self { tries: 0, ..*self } != Self { sent: 1, ..Self::default() }
    }
}

/// The requests of tries that decided nothing and have no entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct WithoutEntry {
    pub(crate) sent: u64,
    pub(crate) refused_here: u64,
    pub(crate) unconnected: u64,
}

impl AddAssign for Requests {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.refused_here += other.refused_here;
        self.unconnected += other.unconnected;
        self.tries_not_executed += other.tries_not_executed;
        self.tries_unrecorded += other.tries_unrecorded;
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
        if self.tries_not_executed > 0 {
            write!(f, "; before that {}, not executed and without an entry", tries(self.tries_not_executed))?;
        }
        if self.tries_unrecorded > 0 {
            write!(
                f,
                "; besides {} without an entry, which left the outcome unknown",
                tries(self.tries_unrecorded)
            )?;
        }
        Ok(())
    }
}

fn tries(n: u64) -> String {
    if n == 1 { "1 try".to_owned() } else { format!("{n} tries") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::lost_reply;
    use super::*;

    fn entry(evidence: Value) -> Entry<'static> {
        let (_, recorded) = lost_reply()[3].recorded();
        Entry { evidence, from: "reserving".into(), ..recorded.entry }
    }

    #[test]
    fn a_try_without_an_entry_is_reported_as_not_executed_and_never_counted_as_sent() {
        let sent = json!({"layer": "attempt", "action": "success", "why": "replied", "attempt": 1, "endpoint": null,
            "deadline_left_ms": 4, "at_ms": 5});
        let mut entry = entry(json!({"decisions": [sent], "tries": 2}));
        let text = Requests::of(&entry).to_string();
        assert_eq!(
            text,
            "1 sent, 0 refused here before sending; before that 1 try, not executed and without an entry"
        );
        let other = json!({"layer": "of a newer release"});
        entry.evidence["decisions"].as_array_mut().unwrap().push(other);
        assert!(Requests::of(&entry).to_string().starts_with("at least 1 sent"));
        entry.from = "reserve_unknown".into();
        assert!(
            Requests::of(&entry)
                .to_string()
                .ends_with("1 try without an entry, which left the outcome unknown")
        );
    }
}
