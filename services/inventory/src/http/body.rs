//! Request bodies, from what travels to what is valid.

use chassis::Validate;
use inventory_api as wire;
use mainstay::problem::FieldError;

use crate::app::{CreateItem, Reserve};
use crate::domain::stock::{Invalid, Lines, Quantity};

/// A reservation and the hash of its canonical payload, which its sender can compute too.
#[derive(Debug)]
pub(super) struct ReserveBody {
    pub(super) reserve: Reserve,
    pub(super) payload_hash: [u8; 32],
}

impl Validate for ReserveBody {
    type Wire = wire::ReserveRequest;

    fn validate(wire: wire::ReserveRequest) -> Result<Self, Vec<FieldError>> {
        let payload_hash = journal::entry::payload_hash(&wire);
        let (mut errors, lines) = match Lines::new(&wire.lines) {
            Ok(lines) => (Vec::new(), Some(lines)),
            Err(errors) => (errors, None),
        };
        let hold_seconds = taken("hold_seconds", wire.hold_seconds.try_into(), &mut errors);
        let (Some(lines), Some(hold_seconds)) = (lines, hold_seconds) else { return Err(errors) };
        let (reservation_id, order_id) = (wire.reservation_id, wire.order_id);
        Ok(Self { reserve: Reserve { reservation_id, order_id, lines, hold_seconds }, payload_hash })
    }
}

/// A new item and the hash of its canonical payload.
#[derive(Debug)]
pub(super) struct CreateItemBody {
    pub(super) create: CreateItem,
    pub(super) payload_hash: [u8; 32],
}

impl Validate for CreateItemBody {
    type Wire = wire::CreateItem;

    fn validate(wire: wire::CreateItem) -> Result<Self, Vec<FieldError>> {
        let payload_hash = journal::entry::payload_hash(&wire);
        let mut errors = Vec::new();
        let sku = taken("sku", wire.sku.try_into(), &mut errors);
        let name = taken("name", wire.name.try_into(), &mut errors);
        let on_hand = taken("on_hand", wire.on_hand.try_into(), &mut errors);
        let (Some(sku), Some(name), Some(on_hand)) = (sku, name, on_hand) else { return Err(errors) };
        Ok(Self { create: CreateItem { sku, name, on_hand }, payload_hash })
    }
}

/// What came in, and the hash of its canonical payload.
#[derive(Debug)]
pub(super) struct ReceiptBody {
    pub(super) quantity: Quantity,
    pub(super) payload_hash: [u8; 32],
}

impl Validate for ReceiptBody {
    type Wire = wire::Receipt;

    fn validate(wire: wire::Receipt) -> Result<Self, Vec<FieldError>> {
        let payload_hash = journal::entry::payload_hash(&wire);
        let mut errors = Vec::new();
        let quantity = taken("quantity", wire.quantity.try_into(), &mut errors);
        quantity.map(|quantity| Self { quantity, payload_hash }).ok_or(errors)
    }
}

/// The value, or one more error.
fn taken<T>(field: &str, value: Result<T, Invalid>, errors: &mut Vec<FieldError>) -> Option<T> {
    value
        .map_err(|invalid| errors.push(FieldError { field: field.to_owned(), detail: invalid.to_string() }))
        .ok()
}
