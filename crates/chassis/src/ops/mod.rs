//! The operations listener: health and metrics for machines, administration for operators.
//!
//! It has its own port and its own few connections, so that it answers while the public listener is full, and so
//! that the public listener exposes none of this.

#[cfg(feature = "service")]
mod admin;
#[cfg(feature = "service")]
mod breakers;
#[cfg(feature = "service")]
mod changes;
#[cfg(all(feature = "service", feature = "faults"))]
mod faults;
mod health;
#[cfg(feature = "service")]
mod limits;

use std::future::Future;

use axum::Router;
use axum::routing::get;
#[cfg(feature = "auth")]
use mainstay::server::ObserverFn;
use mainstay::server::context::ContextLayer;

#[cfg(feature = "service")]
pub use self::{
    breakers::{breaker_conditions, routes as breaker_routes},
    changes::{Change, ChangeLog},
    limits::routes as limit_routes,
};
#[cfg(all(feature = "service", feature = "faults"))]
pub use faults::routes as fault_routes;
pub use health::{Condition, Health};

use crate::routes;
use crate::server::Lifecycle;

/// The router of the operations listener: `/livez`, `/readyz`, `/metrics` and the service's own routes `own`.
///
/// `readiness` reads the state of everything that the service needs, at each request; see [`Condition`].
pub fn router<R, F>(lifecycle: &Lifecycle, readiness: R, own: Router) -> Router
where
    R: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Vec<Condition>> + Send + 'static,
{
    let health = Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .with_state(Health::new(lifecycle.clone(), readiness))
        .route("/metrics", get(health::metrics));
    routes::complete(health.merge(own)).layer(ContextLayer::default())
}

/// Puts `routes`, paths without the prefix, under `/admin/v1` and behind an operator's token. `observer` receives each
/// finished request.
#[cfg(feature = "auth")]
pub fn admin(routes: Router, tokens: &crate::Tokens, observer: Option<ObserverFn>) -> Router {
    use axum::middleware::from_extractor;
    use mainstay::server::observe::ObserveLayer;
    use mainstay::server::panic::CatchPanicLayer;

    use crate::auth::{Caller, Operators};

    // A router without routes takes no layer.
    if !routes.has_routes() {
        return routes;
    }
    // The correlation id is written into a problem inside the observing layer, which counts a body that is replaced
    // further out as abandoned by its client.
    let observe = ObserveLayer::new(Some(std::sync::Arc::new(routes::matched))).observer(observer);
    let layers = (observe, CatchPanicLayer, routes::correlate(), tokens.layer());
    let guarded = routes::methods(routes).route_layer(from_extractor::<Caller<Operators>>()).layer(layers);
    Router::new().nest("/admin/v1", guarded)
}
