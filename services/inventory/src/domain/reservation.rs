//! The states of a reservation, and the one function that decides the next state.

use journal::rule::NONE;
use serde::{Deserialize, Serialize};

use super::Illegal;

/// State of a reservation. All but `Held` are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationState {
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

impl ReservationState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Held, Self::Confirmed, Self::Released, Self::Expired, Self::Refused, Self::Voided];

    /// Parses the stable name of a state.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| journal::State::as_str(*state) == name)
    }
}

impl journal::State for ReservationState {
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

impl From<ReservationState> for inventory_api::ReservationStatus {
    fn from(state: ReservationState) -> Self {
        match state {
            ReservationState::Held => Self::Held,
            ReservationState::Confirmed => Self::Confirmed,
            ReservationState::Released => Self::Released,
            ReservationState::Expired => Self::Expired,
            ReservationState::Refused => Self::Refused,
            ReservationState::Voided => Self::Voided,
        }
    }
}

/// An event that can change a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationEvent {
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

impl ReservationEvent {
    /// All events.
    pub const ALL: [Self; 5] = [Self::Held, Self::Refused, Self::Confirmed, Self::Released, Self::Expired];

    /// The state that the event leads to, if the present state allows it.
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

/// The state of a reservation after `event`. No other function decides this.
///
/// # Errors
/// An event that the state does not allow.
pub fn transition(
    from: Option<ReservationState>,
    event: ReservationEvent,
) -> Result<ReservationState, Illegal> {
    use ReservationEvent as Event;
    use ReservationState as State;
    let illegal = |from| Err(Illegal::between("reservation", from, event.goal()));
    match from {
        // -> held | refused | voided
        None => match event {
            Event::Held => Ok(State::Held),
            Event::Refused => Ok(State::Refused),
            Event::Released => Ok(State::Voided),
            Event::Confirmed | Event::Expired => illegal(NONE),
        },
        // -> confirmed | released | expired
        Some(State::Held) => match event {
            Event::Confirmed => Ok(State::Confirmed),
            Event::Released => Ok(State::Released),
            Event::Expired => Ok(State::Expired),
            Event::Held | Event::Refused => illegal("held"),
        },
        // Terminal: no event is legal.
        Some(
            state @ (State::Confirmed | State::Released | State::Expired | State::Refused | State::Voided),
        ) => illegal(journal::State::as_str(state)),
    }
}
