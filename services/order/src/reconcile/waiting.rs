//! `GET /admin/v1/orders/{id}/waiting`: why an order waits, when it is tried next, and what its clients were told.

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

/// The route, for the operations listener's admin router.
pub fn routes(app: App) -> Router {
    Router::new().route("/orders/{id}/waiting", get(read)).with_state(app)
}

/// An order, as far as it waits.
#[derive(Debug, Serialize)]
struct View {
    id: Uuid,
    status: String,
    /// Tries since the last definite answer.
    tries: i32,
    /// `request` or `reconciler` while one of them works on it.
    holder: Option<String>,
    /// When the reconciler may take it; null at rest.
    #[serde(with = "time::serde::rfc3339::option")]
    due_at: Option<OffsetDateTime>,
    /// Milliseconds until then, by the database's clock; below zero when it is overdue.
    due_in_ms: Option<i64>,
    /// The requests of tries that decided nothing and have no entry, since the order was placed.
    without_entry: WithoutEntry,
    /// Commands without a final reply. Their clients were told 202, or nothing.
    unanswered: Vec<Unanswered>,
    /// The breakers of inventory's endpoints. While one is open or held open, the reconciler takes no order.
    breakers: Vec<Breaker>,
}

#[derive(Debug, Serialize)]
struct WithoutEntry {
    sent: i64,
    /// By a breaker, a limit or the deadline, before sending.
    refused_here: i64,
    /// For want of a connection.
    unconnected: i64,
    /// Why the latest of these tries decided nothing.
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
    /// Milliseconds until it lets a probe through; zero unless open.
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
