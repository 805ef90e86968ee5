//! The public API: routes, request and reply types, and the one mapping from results to replies. No rules, no SQL.

mod answer;
mod body;
mod causality;
mod items;
pub mod reply;
mod reservations;

use axum::Router;
use axum::routing::{get, post};
use chassis::tasks::Tasks;
use utoipa::OpenApi;

use crate::app::Inventory;
use answer::Command;

/// State that the handlers share.
#[derive(Debug, Clone)]
pub struct Api {
    /// The use cases.
    pub inventory: Inventory,
    /// Tasks in which the use cases run, so that a client's disconnect cancels none.
    pub tasks: Tasks,
}

/// Routes of the public listener that need a token.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/items", post(items::create).get(items::list))
        .route("/v1/items/{sku}", get(items::get))
        .route("/v1/items/{sku}/receipts", post(items::receive))
        .route("/v1/reservations", post(reservations::reserve))
        .route("/v1/reservations/{id}", get(reservations::get))
        .route("/v1/reservations/{id}/confirm", post(reservations::confirm))
        .route("/v1/reservations/{id}/release", post(reservations::release))
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
        items::create,
        items::receive,
        items::get,
        items::list,
        reservations::reserve,
        reservations::confirm,
        reservations::release,
        reservations::get
    ),
    components(schemas(chassis::problem_document::ProblemDocument))
)]
pub struct Description;
