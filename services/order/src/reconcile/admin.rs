//! `POST /admin/v1/reconcile`: try what is unresolved now, in the operator's name.

use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Json, Router};
use chassis::auth::Operators;
use chassis::tasks::Tasks;
use chassis::{ApiError, Caller};
use mainstay::RequestContext;
use mainstay::server::LogFields;

use super::{Swept, sweep};
use crate::app::App;
use crate::store::work;

/// The route, for the operations listener's admin router. The work runs in `tasks`: an operator who leaves strands
/// none of the orders that were taken.
pub fn routes(app: App, tasks: Tasks) -> Router {
    Router::new().route("/reconcile", post(reconcile)).with_state((app, tasks))
}

async fn reconcile(
    State((app, tasks)): State<(App, Tasks)>,
    Extension(context): Extension<RequestContext>,
    log: Option<Extension<LogFields>>,
    caller: Caller<Operators>,
) -> Result<Json<Swept>, ApiError> {
    // What this pass resolves carries the operator's name in the journal; what it leaves, the next sweep takes.
    let principal = format!("operator:{}", caller.principal.name);
    let pass = tasks.spawn(async move {
        // Nobody waits for a back-off any longer; leases that are running are left alone.
        app.database
            .transaction(Some(context.deadline.instant()), (), |connection, ()| {
                Box::pin(async move { Ok(journal::Step::Commit(work::hurry(connection).await?)) })
            })
            .await?;
        sweep(&app, &principal).await
    });
    let swept = pass.await.map_err(ApiError::internal)?.map_err(|error| chassis::stored::database(&error))?;
    if let Some(Extension(log)) = log {
        log.set("orders_taken", swept.taken);
        log.set("orders_moved", swept.moved);
    }
    Ok(Json(swept))
}
