//! The decisions of the order service.
//!
//! Each decision is a struct of everything that it reads, so it can be executed again from the journal. A rule that
//! changes gets a new version; the old version stays in the code.

use std::borrow::Cow;
use std::sync::Arc;

use inventory_api::{Line, ReservationStatus, ShortLine};
use journal::rule::{ReplayError, replay as replay_rule};
use journal::{Alternative, Rule, State, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::status::{Event, Status};

/// The decision to accept an order. The order exists from this entry on, even if the call to inventory fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    // The fields stand in the order of their names, as canonical JSON has them, so that the serializer moves none.
    /// Id of the customer.
    pub customer_id: Arc<str>,
    /// Time that is left for the first attempt, in milliseconds.
    pub deadline_left_ms: u64,
    /// Length of the hold that inventory is asked for, in seconds.
    pub hold_seconds: i64,
    /// The plan for the case that no answer comes.
    pub if_unknown: Cow<'static, str>,
    /// Order lines: SKU and quantity.
    pub lines: Arc<[Line]>,
    /// Id of the reservation that inventory will be asked to make.
    pub reservation_id: Uuid,
}

impl Place {
    /// The plan of every intent for the case that no answer comes.
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

/// The decision whether a confirm or cancel may begin. Its entry is the intent, committed before inventory is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intend {
    /// Status of the order when the command came.
    pub state: Status,
    /// The client's command.
    pub wish: Wish,
    /// Id of the order's reservation.
    pub reservation_id: Uuid,
    /// End of the hold, as inventory reported it. This rule does not judge it: only inventory's clock decides expiry.
    pub expires_at: Option<String>,
    /// Time that is left for the first attempt, in milliseconds.
    pub deadline_left_ms: u64,
    /// The plan for the case that no answer comes.
    pub if_unknown: Cow<'static, str>,
}

/// A client's command for an order that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Ship the order.
    Confirm,
    /// Give the order up and its stock back.
    Cancel,
}

impl Wish {
    /// Name of the command.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Cancel => "cancel",
        }
    }

    /// The command as an event of the state machine.
    pub const fn event(self) -> Event {
        match self {
            Self::Confirm => Event::Confirm,
            Self::Cancel => Event::Cancel,
        }
    }

    /// The status in which the command is carried out.
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

/// Inventory's answer, as far as the decision depends on it. The answer "not executed" decides nothing, so it is not
/// recorded as a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reply {
    /// Inventory holds the lines.
    Held {
        /// End of the hold, in RFC 3339.
        expires_at: String,
    },
    /// Inventory has too little stock.
    InsufficientStock {
        /// The lines that inventory cannot fill.
        short_lines: Vec<ShortLine>,
    },
    /// Inventory does not know some of the items.
    UnknownSku {
        /// SKUs of the unknown items.
        skus: Vec<String>,
    },
    /// The reservation was released before the reserve arrived.
    ReservationVoided,
    /// Inventory shipped the stock.
    Shipped,
    /// Inventory gave the stock back, or will never hold any for this reservation.
    Released,
    /// The hold had expired.
    HoldExpired,
    /// No definite answer.
    Nothing {
        /// The failure or reply that was seen.
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

/// The decision that follows from inventory's answer, or from the lack of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    // The fields stand in the order of their names, as in `Place`.
    /// Inventory's answer.
    pub reply: Reply,
    /// Status of the order when the answer came.
    pub state: Status,
}

impl Answered {
    /// The next status; `None` when the status stays, as after a second unknown answer.
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

/// The decision whether an order expires. Inventory was asked for the reservation's status because its hold should have
/// ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lapse {
    /// Status of the order when inventory answered.
    pub state: Status,
    /// Status of the reservation at inventory.
    pub reservation: ReservationStatus,
    /// End of the hold, as inventory reported it.
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

/// Executes a recorded decision again and gives the status that it decides.
pub fn replay(rule: &str, inputs: &Value) -> Result<String, ReplayError> {
    match rule {
        Place::NAME => replay_rule::<Place>(inputs),
        Intend::NAME => replay_rule::<Intend>(inputs),
        Answered::NAME => replay_rule::<Answered>(inputs),
        Lapse::NAME => replay_rule::<Lapse>(inputs),
        unknown => Err(ReplayError::UnknownRule(unknown.to_owned())),
    }
}

/// Kind of the aggregate that these rules decide about.
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
