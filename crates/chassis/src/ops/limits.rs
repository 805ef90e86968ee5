//! `/admin/v1/limits`: the state of everything that may refuse a request or a call.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use mainstay::Registry;
use mainstay::registry::RegistrySnapshot;

/// `GET limits`.
pub fn routes(registry: Registry) -> Router {
    Router::new().route("/limits", get(list)).with_state(registry)
}

async fn list(State(registry): State<Registry>) -> Json<RegistrySnapshot> {
    Json(registry.snapshot())
}
