//! What travels between inventory and its callers.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
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
}

/// A line that could not be met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShortLine {
    /// Which SKU.
    pub sku: String,
    /// How many were asked for.
    pub requested: i64,
    /// How many could be had.
    pub available: i64,
}

/// A new item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateItem {
    /// Stock-keeping unit.
    #[schema(example = "85123A", min_length = 1, max_length = 64)]
    pub sku: String,
    /// For people; 0 to 200 characters.
    #[serde(default)]
    #[schema(example = "WHITE HANGING HEART T-LIGHT HOLDER", max_length = 200)]
    pub name: String,
    /// Pieces in stock to begin with.
    #[serde(default)]
    #[schema(example = 100, minimum = 0, maximum = 1_000_000_000)]
    pub on_hand: i64,
}

/// Stock that came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Pieces, 1 to 1,000,000.
    #[schema(example = 50, minimum = 1, maximum = 1_000_000)]
    pub quantity: i64,
}

/// An item and its stock: `available = on_hand - held`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// Stock-keeping unit.
    pub sku: String,
    /// For people.
    pub name: String,
    /// Pieces in the building.
    pub on_hand: i64,
    /// Of these, promised to reservations.
    pub held: i64,
    /// Of these, free.
    pub available: i64,
}

/// A page of items by SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ItemPage {
    /// The items.
    pub items: Vec<Item>,
    /// Pass as `after` to go on; null at the end.
    pub next: Option<String>,
}

/// Hold these lines for this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReserveRequest {
    /// Chosen by the caller, so that a release can name it whatever became of the request.
    pub reservation_id: Uuid,
    /// For which order.
    pub order_id: Uuid,
    /// All or nothing; 1 to 1,000 distinct SKUs.
    #[serde(deserialize_with = "RequestLine::all")]
    #[schema(value_type = Vec<RequestLine>, min_items = 1, max_items = 1000)]
    pub lines: Arc<[Line]>,
    /// How long to hold, 1 to 86,400 s.
    #[schema(example = 900, minimum = 1, maximum = 86_400)]
    pub hold_seconds: i64,
}

/// The states of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReservationStatus {
    /// Stock is promised until `expires_at`.
    Held,
    /// The stock has left.
    Confirmed,
    /// Given back on request.
    Released,
    /// Given back because its time ran out.
    Expired,
    /// There was not enough, or no such item.
    Refused,
    /// Released before it was ever seen: a late reserve is refused.
    Voided,
}

/// A reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reservation {
    /// Its id.
    pub id: Uuid,
    /// Whose it is; null for one voided before it was seen.
    pub order_id: Option<Uuid>,
    /// Where it stands.
    pub status: ReservationStatus,
    /// What it holds or held.
    pub lines: Vec<Line>,
    /// When the hold ends, by inventory's clock.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}
