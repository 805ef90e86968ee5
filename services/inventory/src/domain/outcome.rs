//! Results of commands, in terms of the domain. The HTTP layer makes replies of them.

use inventory_api::ShortLine;
use time::OffsetDateTime;
use uuid::Uuid;

use super::item::Item;
use super::status::{Illegal, Reservation};
use super::stock::Sku;

/// Result of a command that is decided for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The reservation holds its lines.
    Held(Reservation),
    /// The reservation is in the requested status, or has ended.
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
    /// The status of the reservation does not allow the command.
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
