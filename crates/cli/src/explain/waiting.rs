//! The reasons why an order waits at this moment, from the order service: its next try, its breakers, and the replies
//! that its clients have not had.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::words::{plain, span};

/// The reply to `GET /admin/v1/orders/{id}/waiting`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) id: Uuid,
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) tries: i64,
    pub(crate) holder: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(crate) due_at: Option<OffsetDateTime>,
    pub(crate) due_in_ms: Option<i64>,
    /// The requests of tries that decided nothing and have no entry; `None` from an older release.
    pub(crate) without_entry: Option<UndecidedTries>,
    #[serde(default)]
    pub(crate) unanswered: Vec<Unanswered>,
    #[serde(default)]
    pub(crate) breakers: Vec<Breaker>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UndecidedTries {
    pub(crate) sent: u64,
    pub(crate) refused_here: u64,
    #[serde(default)]
    pub(crate) unconnected: u64,
    pub(crate) why: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Unanswered {
    pub(crate) command: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Breaker {
    pub(crate) name: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) open_for_ms: i64,
}

impl Waiting {
    /// Sentences, one for each known fact.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut sentences = vec![format!("Now order {} is {}.", self.id, plain(&self.status))];
        let mut is_held_back = false;
        for breaker in &self.breakers {
            let name = plain(&breaker.name);
            match &*breaker.state {
                "forced-open" => sentences.push(format!(
                    "An operator holds the breaker of {name} open: nothing is sent until an operator resets it."
                )),
                "open" => sentences.push(format!(
                    "The breaker of {name} is open: nothing is sent for another {}.",
                    span(breaker.open_for_ms)
                )),
                "half-open" | "ramping" => {
                    sentences.push(format!("The breaker of {name} is {}: a few requests are let through.", breaker.state));
                    continue;
                }
                _ => continue,
            }
            is_held_back = true;
        }
        if self.tries > 0 {
            let tries =
                if self.tries == 1 { "try has".to_owned() } else { format!("{} tries have", self.tries) };
            sentences.push(format!("The last {tries} decided nothing."));
        }
        sentences.extend(self.undecided_tries());
        sentences.extend(self.next_try(is_held_back));
        for unanswered in &self.unanswered {
            sentences.push(format!(
                "The client's `{}` has no final reply: it got 202, or has no answer yet.",
                plain(&unanswered.command)
            ));
        }
        sentences
    }

    /// A sentence about the tries that have no entry: their requests, and why the latest decided nothing.
    pub(crate) fn undecided_tries(&self) -> Option<String> {
        let UndecidedTries { sent, refused_here, unconnected, why } = self.without_entry.as_ref()?;
        let why = plain(why.as_deref()?);
        let unconnected = match unconnected {
            0 => String::new(),
            n => format!(", {n} without a connection"),
        };
        Some(format!(
            "Tries of this order that decided nothing and have no entry: {sent} requests sent, {refused_here} refused here \
             before sending{unconnected}. The latest one: {why}."
        ))
    }

    fn next_try(&self, is_held_back: bool) -> Option<String> {
        let due_in = self.due_in_ms?;
        let then = if is_held_back { ", and the breaker then has to let it through" } else { "" };
        Some(match (self.holder.as_deref(), due_in) {
            (Some(holder), 0..) => {
                format!("A {} works on it; its lease ends in {}.", plain(holder), span(due_in))
            }
            (Some(holder), _) => {
                format!(
                    "The lease of a {} ended {} ago: the next sweep takes it over.",
                    plain(holder),
                    span(-due_in)
                )
            }
            (None, 0..) => format!("The next try is due in {}{then}.", span(due_in)),
            (None, _) if is_held_back => {
                format!("The next try is due since {}, and waits for the breaker.", span(-due_in))
            }
            (None, _) => format!("The next try is due since {}: the next sweep takes it.", span(-due_in)),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sentences(more: &serde_json::Value) -> String {
        let mut waiting = json!({"id": Uuid::nil(), "status": "reserving", "tries": 14, "holder": null,
            "due_at": "2026-11-28T13:00:00Z", "due_in_ms": 400, "unanswered": [{"command": "place", "since": "x"}],
            "breakers": [], "moon": "full",
            "without_entry": {"sent": 0, "refused_here": 14, "why": "circuit breaker\u{1b} is open"}});
        waiting.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<Waiting>(waiting).unwrap().sentences().join(" ")
    }

    #[test]
    fn a_waiting_order_names_its_obstacle_its_next_try_and_its_clients_last_reply() {
        let breaker = |state: &str| json!([{"name": "127.0.0.1:2", "state": state, "open_for_ms": 974}]);
        let forced = sentences(&json!({"breakers": breaker("forced-open")}));
        assert!(forced.contains("An operator holds the breaker of 127.0.0.1:2 open"), "{forced}");
        assert!(forced.contains("due in 400 ms, and the breaker then has to let it through"), "{forced}");
        assert!(
            forced.contains("The last 14 tries have decided nothing")
                && forced.contains("`place` has no final reply"),
            "{forced}"
        );
        let counted = "0 requests sent, 14 refused here before sending. The latest one: circuit breaker\u{fffd} is open.";
        assert!(forced.contains(counted), "{forced}");
        let open = sentences(&json!({"breakers": breaker("open"), "due_in_ms": -2_000}));
        assert!(open.contains("nothing is sent for another 974 ms"), "{open}");
        assert!(open.contains("due since 2.00 s, and waits for the breaker"), "{open}");
        let closed = sentences(&json!({"breakers": breaker("closed")}));
        assert!(
            closed.contains("The next try is due in 400 ms.") && !closed.contains("The breaker"),
            "{closed}"
        );
        let leased = sentences(&json!({"holder": "request"}));
        assert!(leased.contains("A request works on it; its lease ends in 400 ms"), "{leased}");
    }
}
