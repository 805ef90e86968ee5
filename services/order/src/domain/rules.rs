//! The decisions of the order service. Each is a struct of everything it reads, so each can be executed again
//! from the journal. A rule that changes gets a new version beside the old one.

use std::borrow::Cow;
use std::sync::Arc;

use inventory_api::{Line, ReservationStatus, ShortLine};
use journal::rule::{ReplayError, replay as replay_rule};
use journal::{Alternative, Rule, State, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::status::{Event, Status};

/// Accept an order: it exists from here on, whatever becomes of the call to inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    // In the order of their names, as canonical JSON has them, so that none has to be moved.
    /// Who buys.
    pub customer_id: Arc<str>,
    /// Time the first attempt has.
    pub deadline_left_ms: u64,
    /// For how long.
    pub hold_seconds: i64,
    /// What is done if the answer never comes.
    pub if_unknown: Cow<'static, str>,
    /// What.
    pub lines: Arc<[Line]>,
    /// The reservation that inventory will be asked for.
    pub reservation_id: Uuid,
}

impl Place {
    /// The plan of every intent.
    pub const IF_UNKNOWN: &'static str = "ask again under the same key until inventory answers";
}

impl Rule for Place {
    const NAME: &'static str = "order.place@1";
    type State = Status;

    fn decide(&self) -> Verdict<Status> {
        let why = format!("{} valid lines; stock is inventory's to judge", self.lines.len());
        Verdict { to: Status::Reserving, alternatives: vec![Alternative::new(Status::Rejected, why)] }
    }
}

/// The client's wish to confirm or cancel: the intent, before inventory is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intend {
    /// The state it met.
    pub state: Status,
    /// What the client wants.
    pub wish: Wish,
    /// The reservation concerned.
    pub reservation_id: Uuid,
    /// When inventory said the hold ends; not judged here, since only inventory's clock counts.
    pub expires_at: Option<String>,
    /// Time the first attempt has.
    pub deadline_left_ms: u64,
    /// What is done if the answer never comes.
    pub if_unknown: Cow<'static, str>,
}

/// What a client can wish for an order that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Ship it.
    Confirm,
    /// Do not.
    Cancel,
}

impl Wish {
    /// The command's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Cancel => "cancel",
        }
    }

    /// The event it is to the state machine.
    pub const fn event(self) -> Event {
        match self {
            Self::Confirm => Event::Confirm,
            Self::Cancel => Event::Cancel,
        }
    }

    /// The state in which it has been fulfilled.
    pub const fn goal(self) -> Status {
        match self {
            Self::Confirm => Status::Confirmed,
            Self::Cancel => Status::Cancelled,
        }
    }
}

impl Rule for Intend {
    const NAME: &'static str = "order.intend@1";
    type State = Status;

    fn decide(&self) -> Verdict<Status> {
        let why = "the wish is not the deed: inventory has to answer first";
        Verdict {
            to: self.state.after(self.wish.event()).unwrap_or(self.state),
            alternatives: vec![Alternative::new(self.wish.goal(), why)],
        }
    }
}

/// What inventory answered, as far as it decides anything. An answer that says "not executed" decides nothing
/// and is not recorded as a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reply {
    /// The reservation is held until then.
    Held {
        /// RFC 3339.
        expires_at: String,
    },
    /// Not enough of these.
    InsufficientStock {
        /// Each short line.
        short_lines: Vec<ShortLine>,
    },
    /// No such items.
    UnknownSku {
        /// Which.
        skus: Vec<String>,
    },
    /// Released before it was made.
    ReservationVoided,
    /// Shipped.
    Shipped,
    /// Given back, or never to be.
    Released,
    /// The hold had run out.
    HoldExpired,
    /// Nothing that could be relied on.
    Nothing {
        /// What was seen instead.
        seen: String,
    },
}

impl Reply {
    const fn event(&self) -> Event {
        match self {
            Self::Held { .. } => Event::Held,
            Self::InsufficientStock { .. } | Self::UnknownSku { .. } | Self::ReservationVoided => {
                Event::Refused
            }
            Self::Shipped => Event::Shipped,
            Self::Released => Event::Released,
            Self::HoldExpired => Event::HoldExpired,
            Self::Nothing { .. } => Event::NoAnswer,
        }
    }
}

/// What an answer, or its absence, makes of the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    // In the order of their names, as in `Place`.
    /// The answer.
    pub reply: Reply,
    /// The state the answer met.
    pub state: Status,
}

impl Answered {
    /// The state it leads to; `None` when it leads nowhere, as a second "unknown" does.
    pub fn leads_to(&self) -> Option<Status> {
        self.state.after(self.reply.event()).ok()
    }
}

impl Rule for Answered {
    const NAME: &'static str = "order.answered@1";
    type State = Status;

    fn decide(&self) -> Verdict<Status> {
        let to = self.leads_to().unwrap_or(self.state);
        let why = format!("the answer was {:?}", self.reply.event());
        let others = self.state.successors().into_iter().filter(|s| *s != to && *s != Status::Cancelling);
        Verdict { to, alternatives: others.map(|s| Alternative::new(s, why.clone())).collect() }
    }
}

/// A hold that should have run out: inventory was asked how the reservation stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lapse {
    /// The state it met.
    pub state: Status,
    /// What inventory says of the reservation.
    pub reservation: ReservationStatus,
    /// When the hold was to end.
    pub expires_at: Option<String>,
}

impl Rule for Lapse {
    const NAME: &'static str = "order.lapse@1";
    type State = Status;

    fn decide(&self) -> Verdict<Status> {
        let why = |needed: &str| format!("inventory says {:?}, which is not {needed}", self.reservation);
        if self.reservation == ReservationStatus::Expired {
            let to = self.state.after(Event::HoldExpired).unwrap_or(self.state);
            Verdict { to, alternatives: vec![Alternative::new(self.state, why("held"))] }
        } else {
            Verdict { to: self.state, alternatives: vec![Alternative::new(Status::Expired, why("expired"))] }
        }
    }
}

/// Executes a recorded decision again.
pub fn replay(rule: &str, inputs: &Value) -> Result<String, ReplayError> {
    match rule {
        Place::NAME => replay_rule::<Place>(inputs),
        Intend::NAME => replay_rule::<Intend>(inputs),
        Answered::NAME => replay_rule::<Answered>(inputs),
        Lapse::NAME => replay_rule::<Lapse>(inputs),
        unknown => Err(ReplayError::UnknownRule(unknown.to_owned())),
    }
}

/// The kind of aggregate these rules decide about.
pub const KIND: &str = Status::KIND;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_status() -> impl Strategy<Value = Status> {
        proptest::sample::select(Status::ALL.to_vec())
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        prop_oneof![
            Just(Reply::Held { expires_at: "2026-01-01T00:00:00Z".to_owned() }),
            Just(Reply::UnknownSku { skus: vec!["x".to_owned()] }),
            Just(Reply::ReservationVoided),
            Just(Reply::Shipped),
            Just(Reply::Released),
            Just(Reply::HoldExpired),
            any::<String>().prop_map(|seen| Reply::Nothing { seen }),
        ]
    }

    proptest! {
        #[test]
        fn a_recorded_answer_decides_the_same_again(state in any_status(), reply in any_reply()) {
            let rule = Answered { reply, state };
            let inputs = serde_json::to_value(&rule).unwrap();
            prop_assert_eq!(replay(Answered::NAME, &inputs).unwrap(), rule.decide().to.as_str());
        }

        #[test]
        fn an_answer_moves_only_along_the_table(state in any_status(), reply in any_reply()) {
            let to = Answered { reply, state }.decide().to;
            let legal = crate::domain::TRANSITIONS.contains(&(state.as_str(), to.as_str()));
            prop_assert!(to == state || legal);
        }

        #[test]
        fn a_terminal_order_never_moves(state in any_status(), reply in any_reply()) {
            prop_assume!(state.is_terminal());
            prop_assert_eq!(Answered { reply, state }.leads_to(), None);
        }
    }

    #[test]
    fn a_rule_of_another_build_is_named_in_the_error() {
        let error = replay("order.place@99", &Value::Null).unwrap_err();
        assert!(error.to_string().contains("order.place@99"));
    }
}
