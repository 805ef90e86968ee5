//! Routes for operators, on the operations listener.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use chassis::auth::Operators;
use chassis::{ApiError, Caller, ValidPath};
use mainstay::RequestContext;
use mainstay::server::LogFields;
use serde::Serialize;

use crate::app::App;
use crate::domain::stock::Sku;
use crate::store::{Holder, Share};

/// Limit on reservations of an item that are listed; the sums count all of them.
const NEWEST: i64 = 20;

/// Routes for the operations listener's admin router.
pub fn routes(app: App) -> Router {
    Router::new()
        .route("/reconcile", post(reconcile))
        .route("/items/{sku}/reservations", get(holders))
        .with_state(app)
}

/// Result of a sweep. The members have the same names as in the order service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Swept {
    /// Holds that had ended.
    taken: u64,
    /// Holds that were expired.
    moved: u64,
}

/// `POST /admin/v1/reconcile`: expires all due holds now, in the operator's name.
async fn reconcile(
    State(app): State<App>,
    log: Option<Extension<LogFields>>,
    caller: Caller<Operators>,
) -> Result<Json<Swept>, ApiError> {
    let principal = format!("operator:{}", caller.principal.name);
    app.try_now();
    let ended = app.expire_due(&principal).await.map_err(|error| chassis::stored::database(&error))?;
    if let Some(Extension(log)) = log {
        log.set("holds_ended", ended);
    }
    Ok(Json(Swept { taken: ended, moved: ended }))
}

/// The reservations that name one item.
#[derive(Debug, Serialize)]
struct Holders {
    sku: String,
    /// For each status, the number of reservations and of the pieces that they name.
    shares: Vec<Share>,
    /// At most 20 reservations: the held ones first, then the newest.
    newest: Vec<Holder>,
}

/// `GET /admin/v1/items/{sku}/reservations`: the reservations that took an item's stock.
async fn holders(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    ValidPath(sku): ValidPath<Sku>,
) -> Result<Json<Holders>, ApiError> {
    let found = app.store.holders(&sku, NEWEST, context.deadline.instant()).await;
    let (shares, newest) = found.map_err(|error| chassis::stored::database(&error))?;
    Ok(Json(Holders { sku: sku.to_string(), shares, newest }))
}
