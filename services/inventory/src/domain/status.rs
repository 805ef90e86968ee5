//! A reservation: its statuses, the one function that decides the next status, and the table of all legal moves.

use std::sync::Arc;

use journal::State as _;
use journal::rule::NONE;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::stock::Line;

/// A reservation in its present status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Id of the reservation, which the caller of the reserve chose.
    pub id: Uuid,
    /// Id of the order; `None` for a reservation that was voided before its reserve arrived.
    pub order_id: Option<Uuid>,
    /// Status of the reservation.
    pub status: Status,
    /// Lines that the reservation holds or held.
    pub lines: Arc<[Line]>,
    /// Requested length of the hold, in seconds; `None` for a reservation that was voided before its reserve arrived.
    pub hold_seconds: Option<i64>,
    /// End of the hold; `None` for a reservation that never held stock.
    pub expires_at: Option<OffsetDateTime>,
    /// Version of the newest entry.
    pub version: i64,
}

impl Reservation {
    /// The reservation after a move to `status`.
    pub(super) fn moved(&self, status: Status) -> Self {
        Self { status, version: self.version + 1, ..self.clone() }
    }
}

/// Status of a reservation. All but `Held` are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Stock is held until the reservation expires.
    Held,
    /// The stock is shipped.
    Confirmed,
    /// The stock was given back on request.
    Released,
    /// The stock was given back because the hold had ended.
    Expired,
    /// There was too little stock, or no such item.
    Refused,
    /// The release arrived before the reserve.
    Voided,
}

impl Status {
    /// All statuses.
    pub const ALL: [Self; 6] =
        [Self::Held, Self::Confirmed, Self::Released, Self::Expired, Self::Refused, Self::Voided];

    /// Parses the stable name of a status.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl journal::State for Status {
    const KIND: &'static str = "reservation";

    fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Confirmed => "confirmed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Voided => "voided",
        }
    }
}

impl From<Status> for inventory_api::ReservationStatus {
    fn from(state: Status) -> Self {
        match state {
            Status::Held => Self::Held,
            Status::Confirmed => Self::Confirmed,
            Status::Released => Self::Released,
            Status::Expired => Self::Expired,
            Status::Refused => Self::Refused,
            Status::Voided => Self::Voided,
        }
    }
}

/// An event that can change a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// There was stock for all lines.
    Held,
    /// There was no stock for some line.
    Refused,
    /// The order was confirmed in time.
    Confirmed,
    /// The reservation was released, or voided before its reserve arrived.
    Released,
    /// The hold ended.
    Expired,
}

impl Event {
    /// All events.
    pub const ALL: [Self; 5] = [Self::Held, Self::Refused, Self::Confirmed, Self::Released, Self::Expired];

    /// The status that the event leads to, if the present status allows it.
    const fn goal(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Confirmed => "confirmed",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }
}

impl Status {
    /// The status of a reservation after `event`; `from` is `None` before the first entry. No other function decides this.
    ///
    /// # Errors
    /// An event that the status does not allow.
    pub fn after(from: Option<Self>, event: Event) -> Result<Self, Illegal> {
        match from {
            // -> held | refused | voided
            None => match event {
                Event::Held => Ok(Self::Held),
                Event::Refused => Ok(Self::Refused),
                Event::Released => Ok(Self::Voided),
                Event::Confirmed | Event::Expired => Err(Illegal::event(from, event)),
            },
            // -> confirmed | released | expired
            Some(Self::Held) => match event {
                Event::Confirmed => Ok(Self::Confirmed),
                Event::Released => Ok(Self::Released),
                Event::Expired => Ok(Self::Expired),
                Event::Held | Event::Refused => Err(Illegal::event(from, event)),
            },
            // Terminal: no event is legal.
            Some(Self::Confirmed | Self::Released | Self::Expired | Self::Refused | Self::Voided) => {
                Err(Illegal::event(from, event))
            }
        }
    }
}

/// A move that the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {kind} that is {from} cannot become {to}")]
pub struct Illegal {
    /// `reservation` or `item`.
    pub kind: &'static str,
    /// The present state; `none` before the first entry.
    pub from: &'static str,
    /// The requested state.
    pub to: &'static str,
    /// The states that can follow `from`.
    pub allowed: Vec<&'static str>,
}

impl Illegal {
    /// The refused move of `kind` from `from` to `to`, with the moves that are allowed.
    pub fn between(kind: &'static str, from: &'static str, to: &'static str) -> Self {
        let allowed = TRANSITIONS.iter().filter(|(k, f, _)| *k == kind && *f == from).map(|(.., to)| *to);
        Self { kind, from, to, allowed: allowed.collect() }
    }

    /// The refusal of `event` in the status `from` of a reservation.
    pub(super) fn event(from: Option<Status>, event: Event) -> Self {
        Self::between("reservation", from.map_or(NONE, Status::as_str), event.goal())
    }

    /// True if no state can follow `from`, so that the refusal is final.
    pub fn is_terminal(&self) -> bool {
        self.allowed.is_empty()
    }
}

/// Every legal move, as (kind, from, to). The database has the same table, with a foreign key from the journal to it.
/// Tests show that this table, the database's and the transition function are equal.
pub const TRANSITIONS: [(&str, &str, &str); 8] = [
    ("item", "none", "stocked"),
    ("item", "stocked", "stocked"),
    ("reservation", "held", "confirmed"),
    ("reservation", "held", "expired"),
    ("reservation", "held", "released"),
    ("reservation", "none", "held"),
    ("reservation", "none", "refused"),
    ("reservation", "none", "voided"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_transition_function_allows_exactly_what_the_table_lists() {
        let mut allowed = BTreeSet::new();
        for from in std::iter::once(None).chain(Status::ALL.map(Some)) {
            let name = from.map_or(NONE, Status::as_str);
            for event in Event::ALL {
                match Status::after(from, event) {
                    Ok(to) => assert!(allowed.insert(("reservation", name, to.as_str())), "{name} {event:?}"),
                    Err(illegal) => assert_eq!(illegal.from, name),
                }
            }
        }
        let table: BTreeSet<_> = TRANSITIONS.into_iter().filter(|(kind, ..)| *kind == Status::KIND).collect();
        assert_eq!(allowed, table);
    }

    #[test]
    fn only_held_can_be_left() {
        for state in Status::ALL {
            let illegal = Illegal::between("reservation", state.as_str(), "held");
            assert_eq!(illegal.is_terminal(), state != Status::Held, "{state:?}");
        }
        let open = Illegal::between("reservation", NONE, "confirmed");
        assert_eq!(open.allowed, ["held", "refused", "voided"]);
        assert_eq!(open.to_string(), "a reservation that is none cannot become confirmed");
    }

    #[test]
    fn every_state_parses_from_its_stable_name() {
        for state in Status::ALL {
            assert_eq!(Status::parse(state.as_str()), Some(state));
            let json = serde_json::to_value(state).unwrap();
            assert_eq!(json, state.as_str(), "the name in inputs is the name in the database");
        }
        assert_eq!(Status::parse(NONE), None);
    }
}
