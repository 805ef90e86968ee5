//! What a use case has to say, in the words of the domain.

use inventory_api::ShortLine;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::stock::Sku;
use crate::domain::{Illegal, ReservationState};
use crate::store::items::Item;
use crate::store::reservations::Reservation;

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Stock is held.
    Held(Reservation),
    /// The reservation is where it was asked to be, or already out of the way.
    Present(Reservation),
    /// The item exists now.
    Created(Item),
    /// There is more of the item.
    Received(Item),
    /// No.
    Refused(Refusal),
}

/// A definite no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Not enough of these.
    InsufficientStock { id: Uuid, order_id: Uuid, short_lines: Vec<ShortLine> },
    /// No item has these.
    UnknownSku { id: Uuid, order_id: Uuid, skus: Vec<String> },
    /// It was released before it was made.
    ReservationVoided { id: Uuid },
    /// Its time ran out.
    ReservationExpired { id: Uuid, expires_at: Option<OffsetDateTime> },
    /// Its state does not allow it.
    IllegalTransition(Illegal),
    /// It is held, but for something else.
    HeldOtherwise { id: Uuid },
    /// The order has another reservation that is alive.
    OrderHasAnother { order_id: Uuid },
    /// An item has this SKU.
    SkuExists(Sku),
    /// There is no such reservation.
    NoReservation(Uuid),
    /// There is no such item.
    NoItem(Sku),
}

impl Refusal {
    /// Whether it can never be otherwise, so that it is stored and replayed.
    pub fn is_final(&self) -> bool {
        match self {
            Self::InsufficientStock { .. }
            | Self::UnknownSku { .. }
            | Self::ReservationVoided { .. }
            | Self::ReservationExpired { .. }
            | Self::SkuExists(_) => true,
            Self::IllegalTransition(illegal) => illegal.is_terminal(),
            Self::HeldOtherwise { .. }
            | Self::OrderHasAnother { .. }
            | Self::NoReservation(_)
            | Self::NoItem(_) => false,
        }
    }
}

impl From<Illegal> for Refusal {
    fn from(illegal: Illegal) -> Self {
        Self::IllegalTransition(illegal)
    }
}

impl Refusal {
    /// What an ended reservation says to a confirmation or a late reserve that it cannot follow.
    pub(super) fn expired(reservation: &Reservation) -> Self {
        debug_assert_eq!(reservation.state, ReservationState::Expired);
        Self::ReservationExpired { id: reservation.id, expires_at: reservation.expires_at }
    }
}
