//! `POST /admin/v1/reconcile` tries all unresolved orders now, in the operator's name. `GET /admin/v1/orders/stuck` lists
//! the orders that are set apart.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use chassis::auth::Operators;
use chassis::tasks::Tasks;
use chassis::{ApiError, Caller};
use journal::DatabaseError;
use mainstay::RequestContext;
use mainstay::server::LogFields;
use serde::Serialize;

use super::{Swept, make_due_now, sweep, sweep_stuck};
use crate::app::App;
use crate::store::work::{self, StuckOrder};

/// Routes for the operations listener's admin router. The work runs in `tasks`, so an operator's disconnect leaves none
/// of the taken orders unfinished.
pub fn routes(app: App, tasks: Tasks) -> Router {
    Router::new()
        .route("/reconcile", post(reconcile))
        .route("/orders/stuck", get(stuck))
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
    State((app, _)): State<(App, Tasks)>,
    Extension(context): Extension<RequestContext>,
    _: Caller<Operators>,
) -> Result<Json<Stuck>, ApiError> {
    let deadline = Some(context.deadline.instant());
    let read = app.database.read(deadline, (), |connection, ()| Box::pin(work::stuck(connection, LISTED)));
    let items = read.await.map_err(|error| chassis::stored::database(&error))?;
    Ok(Json(Stuck { items }))
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
    breakers: Vec<Breaker>,
}

#[derive(Debug, Serialize)]
struct Breaker {
    name: String,
    /// `closed`, `open`, `half-open`, `ramping`, `forced-open` or `forced-closed`.
    state: &'static str,
}

async fn reconcile(
    State((app, tasks)): State<(App, Tasks)>,
    Extension(context): Extension<RequestContext>,
    log: Option<Extension<LogFields>>,
    caller: Caller<Operators>,
) -> Result<Json<Pass>, ApiError> {
    // Entries of this pass have the operator's name in the journal. The next sweep takes the orders that are left.
    let principal = format!("operator:{}", caller.principal.name);
    let pass = tasks.shield(async move {
        let unresolved = app
            .database
            .read(Some(context.deadline.instant()), (), |connection, ()| {
                Box::pin(work::unresolved(connection, 0.0))
            })
            .await?;
        let unresolved = unresolved.iter().map(|of_status| of_status.count).sum();
        // Ends back-offs; running leases stay.
        make_due_now(&app).await?;
        let swept = sweep(&app, &principal).await?.and(sweep_stuck(&app, &principal).await?);
        let breakers = app.breakers.list().into_iter();
        let breakers = breakers.map(|b| Breaker { name: b.name, state: b.state.as_str() }).collect();
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
