//! The public API: routes, request and reply types, and the one mapping from results to replies. No rules, no SQL.

mod bodies;
mod commands;
mod queries;
mod replies;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use chassis::routes::compressed;
use chassis::tasks::Tasks;
use utoipa::OpenApi;

use crate::app::App;

pub use bodies::{History, HistoryEntry, OrderPage, PlaceOrder};

/// State that the handlers share.
#[derive(Debug, Clone)]
pub struct Api {
    /// The use cases.
    pub app: Arc<App>,
    /// Tasks in which the use cases run, so that a client's disconnect cancels none.
    pub tasks: Tasks,
}

/// Routes of the public listener that need a token.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/orders", post(commands::place).merge(get(queries::list).layer(compressed())))
        .route("/v1/orders/{id}", get(queries::get))
        .route("/v1/orders/{id}/confirm", post(commands::confirm))
        .route("/v1/orders/{id}/cancel", post(commands::cancel))
        .route("/v1/orders/{id}/history", get(queries::history))
        .with_state(api)
}

/// OpenAPI description, generated from the code.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Mainstay order service",
        description = "Places, confirms, cancels and explains orders. Every POST needs an Idempotency-Key; a repeat with the same key is the same request and gets the same reply. A key is kept for 7 days after its reply, and longer while the order it stands for can still change; after that, a repeat is a new request."
    ),
    paths(
        commands::place,
        commands::confirm,
        commands::cancel,
        queries::get,
        queries::list,
        queries::history
    ),
    components(schemas(chassis::problem_document::ProblemDocument))
)]
pub struct Description;
