//! Wire types: bodies of requests to inventory and of its replies.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// A line of an order or a reservation: SKU and quantity. A reader ignores members that it does not know; a request's
/// lines are read as [`RequestLine`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Line {
    /// Stock-keeping unit, case-sensitive: 1 to 64 printable ASCII characters.
    #[schema(example = "85123A", min_length = 1, max_length = 64)]
    pub sku: String,
    /// Pieces: 1 to 1,000,000.
    #[schema(example = 6, minimum = 1, maximum = 1_000_000)]
    pub quantity: i64,
}

/// A line of a request: SKU and quantity, and no other member.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestLine {
    /// Stock-keeping unit, case-sensitive: 1 to 64 printable ASCII characters.
    #[schema(example = "85123A", min_length = 1, max_length = 64)]
    pub sku: String,
    /// Pieces: 1 to 1,000,000.
    #[schema(example = 6, minimum = 1, maximum = 1_000_000)]
    pub quantity: i64,
}

impl RequestLine {
    /// Reads the lines of a request, for `deserialize_with`.
    ///
    /// # Errors
    /// A line with a member that this release does not know: it could not be honoured.
    pub fn all<'de, D: Deserializer<'de>, L: From<Vec<Line>>>(deserializer: D) -> Result<L, D::Error> {
        let lines = Vec::<Self>::deserialize(deserializer)?;
        let lines = lines.into_iter().map(|Self { sku, quantity }| Line { sku, quantity });
        Ok(lines.collect::<Vec<_>>().into())
    }

    /// Writes the lines of a request, for `serialize_with`. The fingerprints of release 0.1.0 have their members in the order
    /// of their names.
    pub fn write<S: Serializer>(lines: &[Line], serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            quantity: i64,
            sku: &'a str,
        }
        serializer
            .collect_seq(lines.iter().map(|Line { sku, quantity }| Written { quantity: *quantity, sku }))
    }
}

/// A line for which there is too little stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShortLine {
    /// SKU of the item.
    pub sku: String,
    /// Number of pieces that were requested.
    pub requested: i64,
    /// Number of pieces that were available.
    pub available: i64,
}

/// A new item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateItem {
    /// Name of the item, for people: 0 to 200 characters without controls.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(example = "WHITE HANGING HEART T-LIGHT HOLDER", max_length = 200)]
    pub name: String,
    /// Pieces on hand at the beginning: 0 to 1,000,000,000.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schema(example = 100, minimum = 0, maximum = 1_000_000_000)]
    pub on_hand: i64,
    /// Stock-keeping unit, case-sensitive: 1 to 64 printable ASCII characters.
    #[schema(example = "85123A", min_length = 1, max_length = 64)]
    pub sku: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A receipt of stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Number of received pieces: 1 to 1,000,000.
    #[schema(example = 50, minimum = 1, maximum = 1_000_000)]
    pub quantity: i64,
}

/// An item and its stock: `available = on_hand - held`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// Stock-keeping unit.
    pub sku: String,
    /// Name of the item, for people.
    pub name: String,
    /// Pieces in the warehouse.
    pub on_hand: i64,
    /// Pieces on hand that reservations hold.
    pub held: i64,
    /// Pieces that can still be reserved: `on_hand - held`.
    pub available: i64,
}

/// A page of items, sorted by SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ItemPage {
    /// Items of the page.
    pub items: Vec<Item>,
    /// Cursor of the next page: the value for `after`; null at the end.
    pub next: Option<String>,
}

/// A request to hold lines for an order, all or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReserveRequest {
    /// Length of the hold: 1 to 86,400 seconds.
    #[schema(example = 900, minimum = 1, maximum = 86_400)]
    pub hold_seconds: i64,
    /// Lines to hold: 1 to 1,000, with distinct SKUs.
    #[serde(deserialize_with = "RequestLine::all", serialize_with = "RequestLine::write")]
    #[schema(value_type = Vec<RequestLine>, min_items = 1, max_items = 1000)]
    pub lines: Arc<[Line]>,
    /// Id of the order.
    pub order_id: Uuid,
    /// Id of the reservation. The caller chooses it, so that it can release the reservation even when it got no reply.
    pub reservation_id: Uuid,
}

/// Status of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReservationStatus {
    /// Stock is held until `expires_at`.
    Held,
    /// The stock is shipped.
    Confirmed,
    /// The stock was given back on request.
    Released,
    /// The stock was given back because the hold had ended.
    Expired,
    /// There was too little stock, or no such item.
    Refused,
    /// The release arrived before the reserve, so a late reserve is rejected.
    Voided,
}

/// A reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reservation {
    /// Id of the reservation.
    pub id: Uuid,
    /// Id of the order; null for a reservation that was voided before its reserve arrived.
    pub order_id: Option<Uuid>,
    /// Status of the reservation.
    pub status: ReservationStatus,
    /// Lines that the reservation holds or held.
    pub lines: Vec<Line>,
    /// End of the hold, by inventory's clock, RFC 3339 in UTC; null for a reservation that never held stock.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}
