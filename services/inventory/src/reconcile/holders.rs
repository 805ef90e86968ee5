//! `GET /admin/v1/items/{sku}/reservations`: the reservations that took an item's stock.

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Json, Router};
use chassis::{ApiError, ValidPath};
use mainstay::RequestContext;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::app::Inventory;
use crate::domain::stock::Sku;
use crate::store::holders;

/// Limit on reservations that are listed; the sums count all of them.
const TOLD: i64 = 20;

/// Route for the operations listener's admin router.
pub fn routes(inventory: Inventory) -> Router {
    Router::new().route("/items/{sku}/reservations", get(read)).with_state(inventory)
}

/// The reservations that name one item.
#[derive(Debug, Serialize)]
struct View {
    sku: String,
    /// For each status, the number of reservations and of the pieces that they name.
    shares: Vec<Share>,
    /// At most 20 reservations: the held ones first, then the newest.
    newest: Vec<Holder>,
}

#[derive(Debug, Serialize)]
struct Share {
    status: String,
    reservations: i64,
    pieces: i64,
}

#[derive(Debug, Serialize)]
struct Holder {
    id: Uuid,
    order_id: Option<Uuid>,
    status: String,
    quantity: Option<i64>,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

async fn read(
    State(inventory): State<Inventory>,
    Extension(context): Extension<RequestContext>,
    ValidPath(sku): ValidPath<Sku>,
) -> Result<Json<View>, ApiError> {
    let deadline = Some(context.deadline.instant());
    let found = inventory
        .database()
        .read(deadline, &sku, |connection, sku| Box::pin(holders::read(connection, sku, TOLD)))
        .await;
    let (shares, newest) = found.map_err(|error| chassis::stored::database(&error))?;
    let share =
        |s: holders::Share| Share { status: s.status, reservations: s.reservations, pieces: s.pieces };
    let holder = |h: holders::Holder| Holder {
        id: h.id,
        order_id: h.order_id,
        status: h.status,
        quantity: h.quantity,
        updated_at: h.updated_at,
    };
    Ok(Json(View {
        sku: sku.as_str().to_owned(),
        shares: shares.into_iter().map(share).collect(),
        newest: newest.into_iter().map(holder).collect(),
    }))
}
