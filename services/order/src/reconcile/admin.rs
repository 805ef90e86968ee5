//! Operator routes: `POST /admin/v1/reconcile` tries all unresolved orders now, in the operator's name. `GET
//! /admin/v1/orders/stuck` lists the stuck orders. `GET /admin/v1/orders/{id}/waiting` gives the reason why an order waits,
//! the time of its next try, and the commands without a final reply.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use chassis::auth::Operators;
use chassis::tasks::Tasks;
use chassis::{ApiError, Caller, ValidPath};
use journal::DatabaseError;
use mainstay::RequestContext;
use mainstay::server::LogFields;
use serde::Serialize;
use uuid::Uuid;

use super::{Swept, sweep, take};
use crate::app::App;
use crate::store::{Due, StuckOrder, Unanswered, Waiting};

type Shared = State<(Arc<App>, Tasks)>;

/// Routes for the operations listener's admin router. The work runs in `tasks`, so an operator's disconnect leaves none
/// of the taken orders unfinished.
pub fn routes(app: Arc<App>, tasks: Tasks) -> Router {
    Router::new()
        .route("/reconcile", post(reconcile))
        .route("/orders/stuck", get(stuck))
        .route("/orders/{id}/waiting", get(waiting))
        .with_state((app, tasks))
}

/// The most stuck orders in one reply.
const LISTED: i64 = 100;

/// Orders whose tries fail while inventory serves other orders.
#[derive(Debug, Serialize)]
struct Stuck {
    /// At most 100 orders; the order that waits longest comes first.
    items: Vec<StuckOrder>,
}

async fn stuck(
    State((app, _)): Shared,
    Extension(context): Extension<RequestContext>,
    _: Caller<Operators>,
) -> Result<Json<Stuck>, ApiError> {
    let unresolved = app.store.unresolved(Some(context.deadline.instant()), 0.0, LISTED).await;
    let unresolved = unresolved.map_err(|error| chassis::stored::database(&error))?;
    Ok(Json(Stuck { items: unresolved.stuck }))
}

/// Result of a reconcile pass.
#[derive(Debug, Serialize)]
struct Pass {
    /// Orders that were unresolved when the pass began, those leased to other drivers included.
    unresolved: i64,
    /// Orders that the pass took, by result. It takes at most 128 unresolved orders, 128 orders whose hold should have
    /// ended, and 16 stuck orders; 4 of each while a breaker is half-open or ramping, none while one is open.
    #[serde(flatten)]
    swept: Swept,
    /// Breakers of inventory's endpoints after the pass.
    breakers: Vec<BreakerState>,
}

async fn reconcile(
    State((app, tasks)): Shared,
    Extension(context): Extension<RequestContext>,
    log: Option<Extension<LogFields>>,
    caller: Caller<Operators>,
) -> Result<Json<Pass>, ApiError> {
    // Entries of this pass have the operator's name in the journal. The next sweep takes the orders that are left.
    let principal = format!("operator:{}", caller.principal.name);
    let pass = tasks.shield(async move {
        let unresolved = app.store.unresolved(Some(context.deadline.instant()), 0.0, LISTED).await?;
        let unresolved = unresolved.by_status.iter().map(|of_status| of_status.count).sum();
        app.store.make_due_now().await?;
        let swept = sweep(&app, &principal).await?.and(take(&app, &principal, Due::Stuck).await?);
        let breakers = app.breakers.list().into_iter();
        let breakers = breakers.map(|b| BreakerState { name: b.name, state: b.state.as_str() }).collect();
        Ok(Pass { unresolved, swept, breakers })
    });
    let pass = pass.await.map_err(ApiError::internal)?;
    let pass = pass.map_err(|error: DatabaseError| chassis::stored::database(&error))?;
    if let Some(Extension(log)) = log {
        log.set("orders_taken", pass.swept.taken);
        log.set("orders_moved", pass.swept.moved);
    }
    Ok(Json(pass))
}

/// The waiting state of an order.
#[derive(Debug, Serialize)]
struct WaitingView {
    #[serde(flatten)]
    order: Waiting,
    /// Commands without a final reply. Their clients got 202, or no reply.
    unanswered: Vec<Unanswered>,
    /// Breakers of inventory's endpoints. While one is open or forced open, the reconciler takes no order.
    breakers: Vec<Breaker>,
}

#[derive(Debug, Serialize)]
struct BreakerState {
    name: String,
    /// `closed`, `open`, `half-open`, `ramping`, `forced-open` or `forced-closed`.
    state: &'static str,
}

#[derive(Debug, Serialize)]
struct Breaker {
    #[serde(flatten)]
    breaker: BreakerState,
    /// Milliseconds until the breaker lets a probe through; zero unless it is open.
    open_for_ms: u64,
}

async fn waiting(
    State((app, _)): Shared,
    Extension(context): Extension<RequestContext>,
    ValidPath(id): ValidPath<Uuid>,
) -> Result<Json<WaitingView>, ApiError> {
    let found = app.store.waiting(context.deadline.instant(), id).await;
    let found = found.map_err(|error| chassis::stored::database(&error))?;
    let (order, unanswered) = found.ok_or_else(|| ApiError::not_found("there is no such order"))?;
    let breakers = app.breakers.list().into_iter().map(|b| Breaker {
        breaker: BreakerState { name: b.name, state: b.state.as_str() },
        open_for_ms: b.open_for_ms,
    });
    Ok(Json(WaitingView { order, unanswered, breakers: breakers.collect() }))
}
