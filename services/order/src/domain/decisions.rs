//! The decisions of the order service, and the mapping from inventory's wire answer to a decision.
//!
//! Each decision is a struct of everything that it reads, so it can be executed again from the journal. A rule that
//! changes gets a new version; the old version stays in the code.

use std::borrow::Cow;
use std::sync::Arc;

use inventory_api::{Answer, Line, Refusal, Reservation, ReservationStatus, ShortLine};
use journal::rule::{ReplayError, replay as replay_rule};
use journal::{Alternative, Rule, State, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::status::{CustomerCommand, Event, Status, Step};

/// The decision to accept an order. The order exists from this entry on, even if the call to inventory fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
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
    /// The customer's command. Entries of all releases name this member `wish`.
    #[serde(rename = "wish")]
    pub command: CustomerCommand,
    /// Id of the order's reservation.
    pub reservation_id: Uuid,
    /// End of the hold, as inventory reported it. This rule does not judge it: only inventory's clock decides expiry.
    pub expires_at: Option<String>,
    /// Time that is left for the first attempt, in milliseconds.
    pub deadline_left_ms: u64,
    /// The plan for the case that no answer comes.
    pub if_unknown: Cow<'static, str>,
}

impl Intend {
    fn verdict(&self, why: &'static str) -> Verdict<Status> {
        Verdict {
            to: self.state.after(self.command.event()).unwrap_or(self.state),
            alternatives: vec![Alternative::new(self.command.goal(), why)],
        }
    }
}

impl Rule for Intend {
    const NAME: &'static str = "order.intend@2";
    type State = Status;

    fn decide(&self) -> Verdict<Status> {
        self.verdict("awaiting inventory's reply")
    }
}

/// The first version of [`Intend`]: the same decision with another reason text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct IntendV1(Intend);

impl Rule for IntendV1 {
    const NAME: &'static str = "order.intend@1";
    type State = Status;

    fn decide(&self) -> Verdict<Status> {
        self.0.verdict("the wish is not the deed: inventory has to answer first")
    }
}

/// Inventory's answer, as far as the decision depends on it. The answer "not executed" decides nothing, so it is not
/// recorded as a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InventoryAnswer {
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

impl InventoryAnswer {
    /// Reads the wire answer to `step`.
    ///
    /// # Errors
    /// The call was not executed, so it decides nothing: the order's state is known as well as before.
    fn read(step: Step, answer: Answer<Reservation>) -> Result<Self, String> {
        let nothing = |seen: String| Ok(Self::Nothing { seen });
        match (step, answer) {
            (_, Answer::NotExecuted(why)) => Err(why),
            (_, Answer::Unknown(why)) => nothing(why),
            (Step::Reserve, Answer::Applied(reservation)) => {
                match reservation.expires_at.map(|t| t.format(&Rfc3339)) {
                    Some(Ok(expires_at)) => Ok(Self::Held { expires_at }),
                    _ => nothing("a reservation that does not say when it expires".to_owned()),
                }
            }
            (Step::Confirm, Answer::Applied(_)) => Ok(Self::Shipped),
            (Step::Release, Answer::Applied(_)) => Ok(Self::Released),
            (Step::Reserve, Answer::Refused(Refusal::InsufficientStock(short_lines))) => {
                Ok(Self::InsufficientStock { short_lines })
            }
            (Step::Reserve, Answer::Refused(Refusal::UnknownSku(skus))) => Ok(Self::UnknownSku { skus }),
            (Step::Reserve, Answer::Refused(Refusal::ReservationVoided)) => Ok(Self::ReservationVoided),
            (Step::Confirm, Answer::Refused(Refusal::ReservationExpired)) => Ok(Self::HoldExpired),
            (_, Answer::Refused(other)) => {
                nothing(format!("{other:?}, which is no answer to {}", step.as_str()))
            }
        }
    }

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
    /// Inventory's answer. Entries name this member `reply`.
    #[serde(rename = "reply")]
    pub answer: InventoryAnswer,
    /// Status of the order when the answer came.
    pub state: Status,
}

impl Answered {
    /// The next status; `None` when the status stays, as after a second unknown answer.
    pub fn leads_to(&self) -> Option<Status> {
        self.state.after(self.answer.event()).ok()
    }
}

impl Rule for Answered {
    const NAME: &'static str = "order.answered@1";
    type State = Status;

    fn decide(&self) -> Verdict<Status> {
        let to = self.leads_to().unwrap_or(self.state);
        let why = format!("the answer was {:?}", self.answer.event());
        let others = self.state.successors().into_iter().filter(|s| *s != to && *s != Status::Cancelling);
        Verdict { to, alternatives: others.map(|s| Alternative::new(s, why.clone())).collect() }
    }
}

/// The next action for an order after inventory was asked for a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A transition, which this decision explains.
    Move(Answered),
    /// No transition, for this reason: the order is tried again.
    Wait(String),
}

impl Decision {
    /// The reason why inventory's answer was not definite; `None` after a definite one.
    pub fn inconclusive(&self) -> Option<&str> {
        match self {
            Self::Wait(why) | Self::Move(Answered { answer: InventoryAnswer::Nothing { seen: why }, .. }) => {
                Some(why)
            }
            Self::Move(_) => None,
        }
    }
}

/// Decides by inventory's wire answer to `step` about an order in `state`.
pub fn answered(state: Status, step: Step, answer: Answer<Reservation>) -> Decision {
    let rule = match InventoryAnswer::read(step, answer) {
        Ok(answer) => Answered { answer, state },
        Err(why) => return Decision::Wait(why),
    };
    match (rule.leads_to(), rule.answer) {
        (Some(_), answer) => Decision::Move(Answered { answer, state }),
        // The outcome was unknown before, and still is.
        (None, InventoryAnswer::Nothing { seen }) => Decision::Wait(seen),
        (None, answer) => Decision::Wait(format!("{answer:?}")),
    }
}

/// The decision whether an order expires. Inventory was asked for the reservation's status because its hold should have
/// ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expire {
    /// Status of the order when inventory answered.
    pub state: Status,
    /// Status of the reservation at inventory.
    pub reservation: ReservationStatus,
    /// End of the hold, as inventory reported it.
    pub expires_at: Option<String>,
}

impl Rule for Expire {
    const NAME: &'static str = "order.expire@1";
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

/// The next action for a reserved order whose hold should have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldDecision {
    /// The order expires, which this decision explains.
    Expire(Expire),
    /// Inventory has not ended the hold yet.
    StillHeld,
    /// The reservation is in this state at inventory, and the order is reserved. No entry says why, so no rule decides
    /// about it: the order stays reserved, and its client may cancel it.
    Mismatch(&'static str),
    /// No definite answer came, for this reason.
    Wait(String),
}

impl HoldDecision {
    /// The reason why inventory's answer was not definite; `None` after a definite one.
    pub fn inconclusive(&self) -> Option<&str> {
        match self {
            Self::Wait(why) => Some(why),
            Self::Expire(_) | Self::StillHeld | Self::Mismatch(_) => None,
        }
    }
}

/// Decides by inventory's wire answer about the reservation of an order in `state`.
pub fn hold(state: Status, expires_at: Option<String>, answer: Answer<Reservation>) -> HoldDecision {
    let reservation = match answer {
        Answer::Applied(reservation) => reservation.status,
        Answer::Refused(Refusal::NotFound) => return HoldDecision::Mismatch("absent"),
        Answer::NotExecuted(why) | Answer::Unknown(why) => return HoldDecision::Wait(why),
        Answer::Refused(refusal) => return HoldDecision::Wait(format!("{refusal:?}")),
    };
    match reservation {
        ReservationStatus::Expired => HoldDecision::Expire(Expire { state, reservation, expires_at }),
        ReservationStatus::Held => HoldDecision::StillHeld,
        ReservationStatus::Confirmed => HoldDecision::Mismatch("confirmed"),
        ReservationStatus::Released => HoldDecision::Mismatch("released"),
        ReservationStatus::Refused => HoldDecision::Mismatch("refused"),
        ReservationStatus::Voided => HoldDecision::Mismatch("voided"),
    }
}

/// Executes a recorded decision again and gives the status that it decides.
pub fn replay(rule: &str, inputs: &Value) -> Result<String, ReplayError> {
    match rule {
        Place::NAME => replay_rule::<Place>(inputs),
        Intend::NAME => replay_rule::<Intend>(inputs),
        IntendV1::NAME => replay_rule::<IntendV1>(inputs),
        Answered::NAME => replay_rule::<Answered>(inputs),
        // `order.lapse@1` is the name of the same rule in entries of older releases.
        Expire::NAME | "order.lapse@1" => replay_rule::<Expire>(inputs),
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

    fn any_answer() -> impl Strategy<Value = InventoryAnswer> {
        prop_oneof![
            Just(InventoryAnswer::Held { expires_at: "2026-01-01T00:00:00Z".to_owned() }),
            Just(InventoryAnswer::UnknownSku { skus: vec!["x".to_owned()] }),
            Just(InventoryAnswer::ReservationVoided),
            Just(InventoryAnswer::Shipped),
            Just(InventoryAnswer::Released),
            Just(InventoryAnswer::HoldExpired),
            any::<String>().prop_map(|seen| InventoryAnswer::Nothing { seen }),
        ]
    }

    proptest! {
        #[test]
        fn a_recorded_answer_decides_the_same_again(state in any_status(), answer in any_answer()) {
            let rule = Answered { answer, state };
            let inputs = serde_json::to_value(&rule).unwrap();
            prop_assert_eq!(replay(Answered::NAME, &inputs).unwrap(), rule.decide().to.as_str());
        }

        #[test]
        fn an_answer_moves_only_along_the_table(state in any_status(), answer in any_answer()) {
            let to = Answered { answer, state }.decide().to;
            let legal = crate::domain::TRANSITIONS.contains(&(state.as_str(), to.as_str()));
            prop_assert!(to == state || legal);
        }

        #[test]
        fn a_terminal_order_never_moves(state in any_status(), answer in any_answer()) {
            prop_assume!(state.is_terminal());
            prop_assert_eq!(Answered { answer, state }.leads_to(), None);
        }
    }

    #[test]
    fn a_rule_of_another_build_is_named_in_the_error() {
        let error = replay("order.place@99", &Value::Null).unwrap_err();
        assert!(error.to_string().contains("order.place@99"));
    }

    #[test]
    fn an_intent_of_an_older_release_has_its_older_reason() {
        let inputs = serde_json::json!({"state": "reserved", "wish": "cancel", "reservation_id": Uuid::nil(),
            "expires_at": null, "deadline_left_ms": 1, "if_unknown": "ask again"});
        let older: IntendV1 = serde_json::from_value(inputs.clone()).unwrap();
        let newer: Intend = serde_json::from_value(inputs.clone()).unwrap();
        let reasons = [older.decide(), newer.decide()].map(|verdict| {
            assert_eq!(verdict.to, Status::Cancelling);
            verdict.alternatives[0].refused_because.to_string()
        });
        let reason = "the wish is not the deed: inventory has to answer first";
        assert_eq!(reasons, [reason, "awaiting inventory's reply"]);
        for version in ["order.intend@1", "order.intend@2"] {
            assert_eq!(replay(version, &inputs).unwrap(), "cancelling");
        }
    }

    #[test]
    fn only_a_definite_answer_moves_an_order_whose_outcome_is_unknown() {
        let unknown = || Answer::Unknown("no reply".to_owned());
        let unsent = || Answer::NotExecuted("no connection".to_owned());
        let decide = |state, step, answer| super::answered(state, step, answer);
        for (state, step) in [
            (Status::Reserving, Step::Reserve),
            (Status::Confirming, Step::Confirm),
            (Status::Cancelling, Step::Release),
        ] {
            let Decision::Move(rule) = decide(state, step, unknown()) else { panic!("{state:?}") };
            let unknown_state = rule.leads_to().unwrap();
            assert_eq!(decide(state, step, unsent()), Decision::Wait("no connection".to_owned()));
            assert_eq!(decide(unknown_state, step, unknown()), Decision::Wait("no reply".to_owned()));
            assert_eq!(decide(state, step, unknown()).inconclusive(), Some("no reply"));
        }
        let voided =
            decide(Status::ReserveUnknown, Step::Reserve, Answer::Refused(Refusal::ReservationVoided));
        assert_eq!(voided.inconclusive(), None);
        assert!(matches!(voided, Decision::Move(rule) if rule.leads_to() == Some(Status::Rejected)));
        let nonsense = decide(Status::Confirming, Step::Confirm, Answer::Refused(Refusal::NotFound));
        assert!(matches!(nonsense, Decision::Move(rule) if rule.leads_to() == Some(Status::ConfirmUnknown)));
    }
}
