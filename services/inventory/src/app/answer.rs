//! Answers of the use cases, in terms of the domain.

use inventory_api::ShortLine;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::stock::Sku;
use crate::domain::{Illegal, ReservationState};
use crate::store::items::Item;
use crate::store::reservations::Reservation;

/// Answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The reservation holds its lines.
    Held(Reservation),
    /// The reservation was in the requested state already, or has ended.
    Present(Reservation),
    /// The item was created.
    Created(Item),
    /// Stock of the item was received.
    Received(Item),
    /// The command is refused.
    Refused(Refusal),
}

/// Reason why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is too little stock for some lines.
    InsufficientStock { id: Uuid, order_id: Uuid, short_lines: Vec<ShortLine> },
    /// There is no item for some SKUs.
    UnknownSku { id: Uuid, order_id: Uuid, skus: Vec<String> },
    /// The reservation was released before its reserve arrived.
    ReservationVoided { id: Uuid },
    /// The hold has ended.
    ReservationExpired { id: Uuid, expires_at: Option<OffsetDateTime> },
    /// The state of the reservation does not allow the command.
    IllegalTransition(Illegal),
    /// The reservation is held for another order, other lines or another time.
    HeldOtherwise { id: Uuid },
    /// The order has another reservation that is held or confirmed.
    OrderHasAnother { order_id: Uuid },
    /// An item has this SKU.
    SkuExists(Sku),
    /// There is no such reservation.
    NoReservation(Uuid),
    /// There is no such item.
    NoItem(Sku),
}

impl Refusal {
    /// True if a repeat can never succeed, so that the refusal is stored and replayed.
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
    /// The refusal of a confirm or a late reserve of an expired reservation.
    pub(super) fn expired(reservation: &Reservation) -> Self {
        debug_assert_eq!(reservation.state, ReservationState::Expired);
        Self::ReservationExpired { id: reservation.id, expires_at: reservation.expires_at }
    }
}
