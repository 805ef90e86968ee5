//! The states of a reservation and the one function that moves between them.

use journal::rule::NONE;
use serde::{Deserialize, Serialize};

use super::Illegal;

/// Where a reservation stands. All but `Held` are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationState {
    /// Stock is promised until it expires.
    Held,
    /// The stock has left.
    Confirmed,
    /// Given back on request.
    Released,
    /// Given back because its time ran out.
    Expired,
    /// There was not enough, or no such item.
    Refused,
    /// Released before it was ever seen.
    Voided,
}

impl ReservationState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Held, Self::Confirmed, Self::Released, Self::Expired, Self::Refused, Self::Voided];

    /// The state of that name.
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

/// What can happen to a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationEvent {
    /// Its lines could be promised.
    Held,
    /// Its lines could not be promised.
    Refused,
    /// The order was confirmed in time.
    Confirmed,
    /// It was given back, or forbidden before it came to be.
    Released,
    /// Its time ran out.
    Expired,
}

impl ReservationEvent {
    /// Every event.
    pub const ALL: [Self; 5] = [Self::Held, Self::Refused, Self::Confirmed, Self::Released, Self::Expired];

    /// Where the event leads if the state allows it.
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

/// The one place that says where a reservation goes from where.
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
        // Terminal.
        Some(
            state @ (State::Confirmed | State::Released | State::Expired | State::Refused | State::Voided),
        ) => illegal(journal::State::as_str(state)),
    }
}
