//! The public API: routes, request and reply types, and the one mapping from results to replies. No rules, no SQL.

mod bodies;
mod causality;
mod commands;
mod queries;
pub mod replies;

use axum::Router;
use axum::routing::{get, post};
use chassis::routes::compressed;
use chassis::tasks::Tasks;
use utoipa::OpenApi;

use crate::app::App;

/// State that the handlers share.
#[derive(Debug, Clone)]
pub struct Api {
    /// The use cases.
    pub app: App,
    /// Tasks in which the use cases run, so that a client's disconnect cancels none.
    pub tasks: Tasks,
}

/// Routes of the public listener that need a token.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/items", post(commands::create_item).merge(get(queries::list_items).layer(compressed())))
        .route("/v1/items/{sku}", get(queries::get_item))
        .route("/v1/items/{sku}/receipts", post(commands::receive))
        .route("/v1/reservations", post(commands::reserve))
        .route("/v1/reservations/{id}", get(queries::get_reservation))
        .route("/v1/reservations/{id}/confirm", post(commands::confirm))
        .route("/v1/reservations/{id}/release", post(commands::release))
        .with_state(api)
}

/// OpenAPI description, generated from the code.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Mainstay inventory service",
        description = "Keeps the stock of each item and holds it for orders. Every POST needs an Idempotency-Key; a repeat with the same key is the same request and gets the same reply. A key is kept for 7 days after its reply, and longer while the reservation it stands for can still change; after that, a repeat is a new request."
    ),
    paths(
        commands::create_item,
        commands::receive,
        queries::get_item,
        queries::list_items,
        commands::reserve,
        commands::confirm,
        commands::release,
        queries::get_reservation
    ),
    components(schemas(chassis::problem_document::ProblemDocument))
)]
pub struct Description;
