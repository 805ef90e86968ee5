//! `POST /admin/v1/reconcile`: try what is unresolved now, in the operator's name.

use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Json, Router};
use chassis::auth::Operators;
use chassis::tasks::Tasks;
use chassis::{ApiError, Caller};
use journal::DatabaseError;
use mainstay::RequestContext;
use mainstay::server::LogFields;
use serde::Serialize;

use super::{Swept, sweep};
use crate::app::App;
use crate::store::work;

/// The route, for the operations listener's admin router. The work runs in `tasks`: an operator who leaves strands
/// none of the orders that were taken.
pub fn routes(app: App, tasks: Tasks) -> Router {
    Router::new().route("/reconcile", post(reconcile)).with_state((app, tasks))
}

/// What a pass met and did.
#[derive(Debug, Serialize)]
struct Pass {
    /// Orders that were unresolved when it began, those in another's hands included.
    unresolved: i64,
    /// What it did: of unresolved orders, and of holds that should have run out, it takes 128 each at most; 4 while a
    /// breaker is half-open or ramping, none while one is open.
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
            .transaction(Some(context.deadline.instant()), (), |connection, ()| {
                Box::pin(async move {
                    let unresolved =
                        work::unresolved(connection).await?.iter().map(|(_, count, _)| count).sum();
                    // Nobody waits for a back-off any longer; leases that are running are left alone.
                    work::hurry(connection).await?;
                    Ok(journal::Step::Commit(unresolved))
                })
            })
            .await?;
        let swept = sweep(&app, &principal).await?;
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
