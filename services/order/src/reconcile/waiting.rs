//! `GET /admin/v1/orders/{id}/waiting`: why an order waits, when it is tried next, and which commands have no final reply.

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Json, Router};
use chassis::{ApiError, ValidPath};
use mainstay::RequestContext;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::app::App;
use crate::store::waiting;

/// Route for the operations listener's admin router.
pub fn routes(app: App) -> Router {
    Router::new().route("/orders/{id}/waiting", get(read)).with_state(app)
}

/// The waiting state of an order.
#[derive(Debug, Serialize)]
struct View {
    id: Uuid,
    status: String,
    /// Tries since the last definite answer.
    tries: i32,
    /// Holder of the lease: `request` or `reconciler`; null when there is none.
    holder: Option<String>,
    /// Time from which the reconciler may take the order; null at rest.
    #[serde(with = "time::serde::rfc3339::option")]
    due_at: Option<OffsetDateTime>,
    /// Milliseconds until `due_at`, by the database's clock; below zero when the order is overdue.
    due_in_ms: Option<i64>,
    /// Requests of tries that decided nothing and have no entry, since the order was placed.
    without_entry: WithoutEntry,
    /// Commands without a final reply. Their clients got 202, or no reply.
    unanswered: Vec<Unanswered>,
    /// Breakers of inventory's endpoints. While one is open or forced open, the reconciler takes no order.
    breakers: Vec<Breaker>,
}

#[derive(Debug, Serialize)]
struct WithoutEntry {
    sent: i64,
    /// Requests that a breaker, a limit or the deadline refused before sending.
    refused_here: i64,
    /// Requests for which there was no connection.
    unconnected: i64,
    /// Reason why the latest of these tries decided nothing.
    why: Option<String>,
}

#[derive(Debug, Serialize)]
struct Unanswered {
    command: String,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
}

#[derive(Debug, Serialize)]
struct Breaker {
    name: String,
    /// `closed`, `open`, `half-open`, `ramping`, `forced-open` or `forced-closed`.
    state: &'static str,
    /// Milliseconds until the breaker lets a probe through; zero unless it is open.
    open_for_ms: u64,
}

async fn read(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    ValidPath(id): ValidPath<Uuid>,
) -> Result<Json<View>, ApiError> {
    let deadline = Some(context.deadline.instant());
    let found = app.database.read(deadline, id, |connection, id| Box::pin(waiting::read(connection, *id)));
    let found = found.await.map_err(|error| chassis::stored::database(&error))?;
    let (waiting, unanswered) = found.ok_or_else(|| ApiError::not_found("there is no such order"))?;
    let breakers = app.breakers.list().into_iter().map(|breaker| Breaker {
        state: breaker.state.as_str(),
        open_for_ms: breaker.open_for_ms,
        name: breaker.name,
    });
    let unanswered = unanswered.into_iter();
    Ok(Json(View {
        id,
        status: waiting.status,
        tries: waiting.tries,
        holder: waiting.holder,
        due_at: waiting.due_at,
        due_in_ms: waiting.due_in_ms,
        without_entry: WithoutEntry {
            sent: waiting.fruitless_sent,
            refused_here: waiting.fruitless_refused,
            unconnected: waiting.fruitless_unconnected,
            why: waiting.fruitless_why,
        },
        unanswered: unanswered.map(|u| Unanswered { command: u.command, since: u.claimed_at }).collect(),
        breakers: breakers.collect(),
    }))
}
