//! The states of an order and the one function that moves between them.
//!
//! An ambiguous answer leads to a state of its own, which only a definite answer leaves. The pivot is
//! inventory's commit of `confirmed`: before `confirming` an order can be cancelled, from then on not.

use journal::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Exists; inventory is being asked to hold its lines.
    Reserving,
    /// Inventory's answer to the reserve is not known.
    ReserveUnknown,
    /// Its stock is held until `expires_at`.
    Reserved,
    /// Inventory refused it.
    Rejected,
    /// Inventory is being asked to ship.
    Confirming,
    /// Inventory's answer to the confirm is not known.
    ConfirmUnknown,
    /// Shipped.
    Confirmed,
    /// Inventory is being asked to give the stock back.
    Cancelling,
    /// Inventory's answer to the release is not known.
    CancelUnknown,
    /// Cancelled; holds nothing.
    Cancelled,
    /// Its hold ran out, by inventory's clock.
    Expired,
}

impl Status {
    /// Every state.
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

    /// Reads the stable name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// Whether nothing can follow.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Rejected | Self::Confirmed | Self::Cancelled | Self::Expired)
    }

    /// Whether someone has to ask inventory before the order can rest.
    pub const fn is_unresolved(self) -> bool {
        self.step().is_some()
    }

    /// What inventory has to be asked in this state.
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

/// The three things inventory is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Hold the lines.
    Reserve,
    /// Ship what is held.
    Confirm,
    /// Give back what is held, or make sure that nothing ever will be.
    Release,
}

impl Step {
    /// The name in derived keys and in the journal's `command`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Confirm => "confirm",
            Self::Release => "release",
        }
    }
}

/// What can happen to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The client confirms.
    Confirm,
    /// The client cancels.
    Cancel,
    /// Inventory holds the lines.
    Held,
    /// Inventory will not hold the lines.
    Refused,
    /// Inventory shipped.
    Shipped,
    /// Inventory gave back.
    Released,
    /// Inventory says that the hold has run out.
    HoldExpired,
    /// Inventory's answer is not known.
    NoAnswer,
}

impl Event {
    /// Every event.
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

/// The move is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} is not possible in {from:?}")]
pub struct Illegal {
    /// The state.
    pub from: Status,
    /// What was tried.
    pub event: Event,
}

impl Status {
    /// The state after `event`.
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

    /// The states that can follow this one.
    pub fn successors(self) -> Vec<Self> {
        let mut next: Vec<_> = Event::ALL.into_iter().filter_map(|e| self.after(e).ok()).collect();
        next.dedup();
        next
    }
}

/// The legal moves as the database has them; a test proves the two equal.
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
    fn the_function_and_the_table_are_the_same() {
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
    fn names_survive_parsing() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert_eq!(Status::parse("lost"), None);
    }
}
