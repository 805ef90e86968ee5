//! `POST /admin/v1/reconcile`: expires all due holds now, in the operator's name.

use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Json, Router};
use chassis::auth::Operators;
use chassis::{ApiError, Caller};
use mainstay::server::LogFields;
use serde::Serialize;

use crate::app::Inventory;

/// Route for the operations listener's admin router.
pub fn routes(inventory: Inventory) -> Router {
    Router::new().route("/reconcile", post(reconcile)).with_state(inventory)
}

/// Result of a sweep. The members have the same names as in the order service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Swept {
    /// Holds that had ended.
    taken: u64,
    /// Holds that were expired.
    moved: u64,
}

async fn reconcile(
    State(inventory): State<Inventory>,
    log: Option<Extension<LogFields>>,
    caller: Caller<Operators>,
) -> Result<Json<Swept>, ApiError> {
    let principal = format!("operator:{}", caller.principal.name);
    inventory.try_now();
    let ended = inventory.expire_due(&principal).await.map_err(|error| chassis::stored::database(&error))?;
    if let Some(Extension(log)) = log {
        log.set("holds_ended", ended);
    }
    Ok(Json(Swept { taken: ended, moved: ended }))
}
