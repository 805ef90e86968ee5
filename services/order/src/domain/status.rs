//! The states of an order, and the one function that decides the next state.
//!
//! An ambiguous answer leads to a state of its own, which only a definite answer leaves; an order in `reserve_unknown`
//! can also be cancelled. The pivot is inventory's commit of `confirmed`: an order can be cancelled before `confirming`,
//! and not from then on.

use journal::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Status of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The order exists, and inventory is asked to hold its lines.
    Reserving,
    /// Inventory's answer to the reserve is not known.
    ReserveUnknown,
    /// Inventory holds the lines until `expires_at`.
    Reserved,
    /// Inventory refused to hold the lines.
    Rejected,
    /// Inventory is asked to ship.
    Confirming,
    /// Inventory's answer to the confirm is not known.
    ConfirmUnknown,
    /// Inventory shipped the lines.
    Confirmed,
    /// Inventory is asked to give the stock back.
    Cancelling,
    /// Inventory's answer to the release is not known.
    CancelUnknown,
    /// The order is cancelled and holds no stock.
    Cancelled,
    /// The hold expired, by inventory's clock.
    Expired,
}

impl Status {
    /// All statuses.
    pub const ALL: [Self; 11] = [
        Self::Reserving,
        Self::ReserveUnknown,
        Self::Reserved,
        Self::Rejected,
        Self::Confirming,
        Self::ConfirmUnknown,
        Self::Confirmed,
        Self::Cancelling,
        Self::CancelUnknown,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Parses the stable name, as [`State::as_str`] gives it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// True if no other status can follow.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Rejected | Self::Confirmed | Self::Cancelled | Self::Expired)
    }

    /// True if inventory has to be asked before the order can rest.
    pub const fn is_unresolved(self) -> bool {
        self.step().is_some()
    }

    /// The step that inventory is asked for in this status; `None` at rest.
    pub const fn step(self) -> Option<Step> {
        match self {
            Self::Reserving | Self::ReserveUnknown => Some(Step::Reserve),
            Self::Confirming | Self::ConfirmUnknown => Some(Step::Confirm),
            Self::Cancelling | Self::CancelUnknown => Some(Step::Release),
            Self::Reserved | Self::Rejected | Self::Confirmed | Self::Cancelled | Self::Expired => None,
        }
    }
}

impl State for Status {
    const KIND: &'static str = "order";

    fn as_str(self) -> &'static str {
        match self {
            Self::Reserving => "reserving",
            Self::ReserveUnknown => "reserve_unknown",
            Self::Reserved => "reserved",
            Self::Rejected => "rejected",
            Self::Confirming => "confirming",
            Self::ConfirmUnknown => "confirm_unknown",
            Self::Confirmed => "confirmed",
            Self::Cancelling => "cancelling",
            Self::CancelUnknown => "cancel_unknown",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// A request to inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Hold the order's lines.
    Reserve,
    /// Ship the held lines.
    Confirm,
    /// Give the held lines back, or make sure that a late reserve holds none.
    Release,
}

impl Step {
    /// Name of the step in derived keys and in the journal's `command`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Confirm => "confirm",
            Self::Release => "release",
        }
    }

    /// Name of the command that the step carries out.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Reserve => PLACE,
            Self::Confirm => CustomerCommand::Confirm.as_str(),
            Self::Release => CustomerCommand::Cancel.as_str(),
        }
    }
}

/// Name of the command that places an order.
pub const PLACE: &str = "place";

/// A customer's command for an order that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CustomerCommand {
    /// Ship the order.
    Confirm,
    /// Cancel the order, and give its stock back.
    Cancel,
}

impl CustomerCommand {
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

/// An event that can move an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The client confirms.
    Confirm,
    /// The client cancels.
    Cancel,
    /// Inventory holds the lines.
    Held,
    /// Inventory refuses to hold the lines.
    Refused,
    /// Inventory shipped the lines.
    Shipped,
    /// Inventory gave the stock back.
    Released,
    /// Inventory says that the hold has expired.
    HoldExpired,
    /// Inventory's answer is not known.
    NoAnswer,
}

impl Event {
    /// All events.
    pub const ALL: [Self; 8] = [
        Self::Confirm,
        Self::Cancel,
        Self::Held,
        Self::Refused,
        Self::Shipped,
        Self::Released,
        Self::HoldExpired,
        Self::NoAnswer,
    ];
}

/// An event that the order's status does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} is not possible in {from:?}")]
pub struct Illegal {
    /// Status of the order.
    pub from: Status,
    /// The refused event.
    pub event: Event,
}

impl Status {
    /// The status after `event`.
    ///
    /// # Errors
    /// An event that this status does not allow.
    pub const fn after(self, event: Event) -> Result<Self, Illegal> {
        use Event as E;
        use Status as S;
        Ok(match (self, event) {
            (S::Reserving | S::ReserveUnknown, E::Held) => S::Reserved,
            (S::Reserving | S::ReserveUnknown, E::Refused) => S::Rejected,
            (S::Reserving, E::NoAnswer) => S::ReserveUnknown,
            (S::Reserving | S::ReserveUnknown | S::Reserved, E::Cancel) => S::Cancelling,
            (S::Reserved, E::Confirm) => S::Confirming,
            (S::Confirming | S::ConfirmUnknown, E::Shipped) => S::Confirmed,
            (S::Confirming, E::NoAnswer) => S::ConfirmUnknown,
            (S::Reserved | S::Confirming | S::ConfirmUnknown, E::HoldExpired) => S::Expired,
            (S::Cancelling | S::CancelUnknown, E::Released) => S::Cancelled,
            (S::Cancelling, E::NoAnswer) => S::CancelUnknown,
            (
                S::Reserving
                | S::ReserveUnknown
                | S::Reserved
                | S::Rejected
                | S::Confirming
                | S::ConfirmUnknown
                | S::Confirmed
                | S::Cancelling
                | S::CancelUnknown
                | S::Cancelled
                | S::Expired,
                event,
            ) => return Err(Illegal { from: self, event }),
        })
    }

    /// The statuses that can follow this one.
    pub fn successors(self) -> Vec<Self> {
        let mut next: Vec<_> = Event::ALL.into_iter().filter_map(|e| self.after(e).ok()).collect();
        next.dedup();
        next
    }
}

/// The legal moves as the database's table has them. A test shows that [`Status::after`] allows the same moves.
pub const TRANSITIONS: [(&str, &str); 19] = [
    ("none", "reserving"),
    ("reserving", "reserved"),
    ("reserving", "rejected"),
    ("reserving", "reserve_unknown"),
    ("reserving", "cancelling"),
    ("reserve_unknown", "reserved"),
    ("reserve_unknown", "rejected"),
    ("reserve_unknown", "cancelling"),
    ("reserved", "confirming"),
    ("reserved", "cancelling"),
    ("reserved", "expired"),
    ("confirming", "confirmed"),
    ("confirming", "confirm_unknown"),
    ("confirming", "expired"),
    ("confirm_unknown", "confirmed"),
    ("confirm_unknown", "expired"),
    ("cancelling", "cancelled"),
    ("cancelling", "cancel_unknown"),
    ("cancel_unknown", "cancelled"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_transition_function_and_the_table_allow_the_same_moves() {
        let table: BTreeSet<_> = TRANSITIONS.into_iter().filter(|(from, _)| *from != "none").collect();
        let function: BTreeSet<_> = Status::ALL
            .into_iter()
            .flat_map(|from| from.successors().into_iter().map(move |to| (from.as_str(), to.as_str())))
            .collect();
        assert_eq!(function, table);
    }

    #[test]
    fn terminal_states_have_no_successor_and_every_other_has_one() {
        for status in Status::ALL {
            assert_eq!(status.successors().is_empty(), status.is_terminal(), "{status:?}");
        }
    }

    #[test]
    fn an_unknown_state_is_left_only_on_a_definite_answer_or_by_cancel() {
        for status in [Status::ReserveUnknown, Status::ConfirmUnknown, Status::CancelUnknown] {
            assert!(status.after(Event::NoAnswer).is_err(), "{status:?}");
        }
        assert_eq!(Status::ReserveUnknown.after(Event::Cancel), Ok(Status::Cancelling));
        assert!(Status::ConfirmUnknown.after(Event::Cancel).is_err());
    }

    #[test]
    fn every_status_parses_from_its_stable_name() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert_eq!(Status::parse("lost"), None);
    }
}
