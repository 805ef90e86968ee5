//! The operations listener: health and metrics for machines, administration for operators.
//!
//! It has its own port and its own few connections, so that it answers while the public listener is full, and so
//! that the public one exposes none of this.

mod admin;
mod breakers;
mod changes;
#[cfg(feature = "faults")]
mod faults;
mod health;
mod limits;

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use mainstay::server::context::ContextLayer;
use mainstay::server::observe::ObserveLayer;
use mainstay::server::panic::CatchPanicLayer;

pub use breakers::{breaker_conditions, routes as breaker_routes};
pub use changes::{Change, ChangeLog};
#[cfg(feature = "faults")]
pub use faults::routes as fault_routes;
pub use health::{Condition, Health};
pub use limits::routes as limit_routes;

use crate::auth::{Caller, Operators, Tokens};
use crate::routes;
use crate::server::Lifecycle;

/// What the operations listener needs of its service.
#[derive(Debug)]
pub struct Operations<R> {
    /// Says whether the process is shutting down.
    pub lifecycle: Lifecycle,
    /// Who is an operator.
    pub tokens: Tokens,
    /// Looks at what the service needs, each time it is asked; see [`Condition`].
    pub readiness: R,
    /// Routes under `/admin/v1`, as paths without that prefix: [`breaker_routes`], [`limit_routes`], fault routes when
    /// faults are enabled, and the service's own. All of them take an operator's token.
    pub admin: Router,
}

/// The router of the operations listener.
pub fn router<R, F>(operations: Operations<R>) -> Router
where
    R: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Vec<Condition>> + Send + 'static,
{
    let Operations { lifecycle, tokens, readiness, admin } = operations;
    let health = Health::new(lifecycle, readiness);
    let open = Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .with_state(health)
        .route("/metrics", get(health::metrics));
    // A router without routes takes no layer.
    let all = if admin.has_routes() { open.nest("/admin/v1", guarded(admin, &tokens)) } else { open };
    routes::complete(all).layer(ContextLayer::default())
}

fn guarded(admin: Router, tokens: &Tokens) -> Router {
    // Problems get their correlation id inside what observes: a body that is replaced further out counts as one that was
    // not waited for.
    let observe = ObserveLayer::new(Some(Arc::new(routes::matched)));
    routes::methods(admin).route_layer(middleware::from_extractor::<Caller<Operators>>()).layer((
        observe,
        CatchPanicLayer,
        routes::correlate(),
        tokens.layer(),
    ))
}
