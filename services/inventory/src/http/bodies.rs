//! Validation of request bodies: from wire types to domain types.

use chassis::Validate;
use inventory_api as wire;
use mainstay::problem::FieldError;

use crate::domain::stock::{Invalid, Lines, Quantity};
use crate::domain::{NewItem, NewReservation};

impl Validate for NewReservation {
    type Wire = wire::ReserveRequest;

    fn validate(wire: wire::ReserveRequest) -> Result<Self, Vec<FieldError>> {
        let (mut errors, lines) = match Lines::new(&wire.lines) {
            Ok(lines) => (Vec::new(), Some(lines)),
            Err(errors) => (errors, None),
        };
        let hold_seconds = taken("hold_seconds", wire.hold_seconds.try_into(), &mut errors);
        let (Some(lines), Some(hold_seconds)) = (lines, hold_seconds) else { return Err(errors) };
        Ok(Self { id: wire.reservation_id, order_id: wire.order_id, lines, hold_seconds })
    }
}

impl Validate for NewItem {
    type Wire = wire::CreateItem;

    fn validate(wire: wire::CreateItem) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let sku = taken("sku", wire.sku.try_into(), &mut errors);
        let name = taken("name", wire.name.try_into(), &mut errors);
        let on_hand = taken("on_hand", wire.on_hand.try_into(), &mut errors);
        let (Some(sku), Some(name), Some(on_hand)) = (sku, name, on_hand) else { return Err(errors) };
        Ok(Self { sku, name, on_hand })
    }
}

/// The number of pieces of a receipt.
impl Validate for Quantity {
    type Wire = wire::Receipt;

    fn validate(wire: wire::Receipt) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        taken("quantity", wire.quantity.try_into(), &mut errors).ok_or(errors)
    }
}

/// The value, or `None` after its error was added to `errors`.
fn taken<T>(field: &str, value: Result<T, Invalid>, errors: &mut Vec<FieldError>) -> Option<T> {
    value
        .map_err(|invalid| errors.push(FieldError { field: field.to_owned(), detail: invalid.to_string() }))
        .ok()
}
