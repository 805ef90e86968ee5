//! The facts in an entry's `inputs`: stock, lines, and the order of a reservation.
//!
//! Only this module knows how the services name the members of `inputs`. A missing fact is an error and is never
//! skipped: a conservation check over half the entries proves nothing.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use journal::Entry;
use journal::rule::NONE;

/// Order lines sorted by SKU, shared between the maps that keep them.
pub(crate) type Lines = Arc<[(Arc<str>, i64)]>;

/// The facts of one entry beside its transition.
#[derive(Debug)]
pub(crate) enum Fact {
    /// An item was created with this much stock, or more stock arrived.
    Received { sku: String, quantity: i64 },
    /// An order was created.
    Ordered { lines: Vec<(String, i64)>, reservation: Option<Uuid> },
    /// A reservation was created as held or refused. `order` is `None` for a reservation that was voided before its
    /// reserve arrived.
    Reserved { order: Option<Uuid>, lines: Vec<(String, i64)> },
    /// No facts beside the transition.
    Nothing,
}

/// Reads the facts of an entry. The error names the missing member.
pub(crate) fn read(entry: &Entry) -> Result<Fact, String> {
    let inputs = &entry.inputs;
    match (&*entry.aggregate_kind, &*entry.from) {
        ("item", _) => {
            Ok(Fact::Received { sku: text(inputs, "sku")?.to_owned(), quantity: number(inputs, "quantity")? })
        }
        ("order", NONE) => {
            let reservation = text(inputs, "reservation_id").ok().and_then(|id| id.parse().ok());
            Ok(Fact::Ordered { lines: lines(inputs)?, reservation })
        }
        ("reservation", NONE) if entry.to == "voided" => {
            Ok(Fact::Reserved { order: None, lines: Vec::new() })
        }
        ("reservation", NONE) => {
            let order = text(inputs, "order_id")?;
            let order = order.parse().map_err(|_| format!("inputs.order_id {order:?} is not a UUID"))?;
            Ok(Fact::Reserved { order: Some(order), lines: lines(inputs)? })
        }
        ("order" | "reservation", _) => Ok(Fact::Nothing),
        (kind, _) => Err(format!("unknown aggregate kind {kind:?}")),
    }
}

/// The stock of one SKU as a decision read it.
#[derive(Debug)]
pub(crate) struct StockRead<'a> {
    pub(crate) sku: &'a str,
    pub(crate) on_hand: i64,
    pub(crate) held: i64,
}

/// Every stock level that an entry's decision read: beside each line, or beside the SKU of a receipt.
pub(crate) fn stock_read<'a>(entry: &'a Entry<'_>) -> impl Iterator<Item = StockRead<'a>> {
    let lines = entry.inputs.get("lines").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    lines.iter().chain([&entry.inputs]).filter_map(|place| {
        let stock = place.get("stock")?;
        Some(StockRead {
            sku: text(place, "sku").ok()?,
            on_hand: number(stock, "on_hand").ok()?,
            held: number(stock, "held").ok()?,
        })
    })
}

fn text<'a>(inputs: &'a Value, name: &str) -> Result<&'a str, String> {
    inputs.get(name).and_then(Value::as_str).ok_or_else(|| format!("inputs.{name} is not a text"))
}

fn number(inputs: &Value, name: &str) -> Result<i64, String> {
    inputs.get(name).and_then(Value::as_i64).ok_or_else(|| format!("inputs.{name} is not a whole number"))
}

fn lines(inputs: &Value) -> Result<Vec<(String, i64)>, String> {
    let list = inputs.get("lines").and_then(Value::as_array).ok_or("inputs.lines is not a list")?;
    list.iter().map(|line| Ok((text(line, "sku")?.to_owned(), number(line, "quantity")?))).collect()
}
