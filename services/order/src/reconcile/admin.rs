//! `POST /admin/v1/reconcile`: try what is unresolved now, in the operator's name. `GET /admin/v1/orders/stuck`: the
//! orders that are set apart.

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

/// The route, for the operations listener's admin router. The work runs in `tasks`: an operator who leaves strands
/// none of the orders that were taken.
pub fn routes(app: App, tasks: Tasks) -> Router {
    Router::new()
        .route("/reconcile", post(reconcile))
        .route("/orders/stuck", get(stuck))
        .with_state((app, tasks))
}

/// Stuck orders in one reply.
const LISTED: i64 = 100;

/// Orders whose tries fail while inventory serves other orders.
#[derive(Debug, Serialize)]
struct Stuck {
    /// At most 100, those that wait longest first.
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

/// What a pass met and did.
#[derive(Debug, Serialize)]
struct Pass {
    /// Orders that were unresolved when it began, those in another's hands included.
    unresolved: i64,
    /// What it did: of unresolved orders, and of holds that should have run out, it takes 128 each at most, and 16 stuck
    /// orders; 4 of each while a breaker is half-open or ramping, none while one is open.
    #[serde(flatten)]
    swept: Swept,
    /// The breakers of inventory's endpoints after it.
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
    // What this pass resolves carries the operator's name in the journal; what it leaves, the next sweep takes.
    let principal = format!("operator:{}", caller.principal.name);
    let pass = tasks.shield(async move {
        let unresolved = app
            .database
            .read(Some(context.deadline.instant()), (), |connection, ()| {
                Box::pin(work::unresolved(connection, 0.0))
            })
            .await?;
        let unresolved = unresolved.iter().map(|of_status| of_status.count).sum();
        // Back-offs end here; leases that are running are left alone.
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
