//! What stands between a listener and its handlers.
//!
//! [`stack`] puts the layers together in the one order that works, outermost first:
//!
//! 1. [`context`]: correlation id, trace, deadline, attempt, priority. First, so that everything inside can name the
//!    request, and last on the way out, so that every reply carries its id.
//! 2. [`observe`]: the canonical log line, metrics and a span. It must see refusals and panics of all that follows.
//! 3. [`drain`]: once shutting down, nothing new is begun; cheapest refusal first.
//! 4. [`panic`]: a panic becomes a reply. Outside whatever holds permits and timers, which unwinding gives back.
//! 5. [`deadline`]: dead work costs neither quota nor a place in the queue.
//! 6. [`rate_limit`]: a principal over its quota costs nobody else a place in the queue.
//! 7. [`shed`]: permits are taken last and held only while there is work.
//!
//! Each layer works alone: it makes what it needs of the request's context when no outer layer has.

pub mod config;
pub mod context;
pub mod deadline;
mod decide;
pub mod drain;
pub mod head;
pub mod log_fields;
pub mod names;
pub mod observe;
pub mod panic;
pub mod rate_limit;
mod record;
pub mod shed;

use std::sync::Arc;

use tower::Layer;

pub use config::{ConfigError, LimitConfig, ServerConfig};
pub use context::DeadlinePolicy;
pub use drain::Drain;
pub use head::RequestHead;
pub use log_fields::LogFields;
pub use observe::RouteLabel;
pub use rate_limit::RateLimitConfig;
pub use record::CANONICAL;

use crate::limit::Limiter;

/// All layers, in order. A clone, and every service it is applied to, shares one limit, one queue, one set of quotas
/// and one drain, so applying it again (as routers do for each route and connection) never multiplies a limit.
#[derive(Debug, Clone)]
pub struct ServerStack {
    context: context::ContextLayer,
    observe: observe::ObserveLayer,
    drain: Drain,
    deadline: deadline::DeadlineLayer,
    rate_limit: rate_limit::RateLimitLayer,
    limiter: Arc<Limiter>,
}

/// What [`ServerStack`] makes of a service.
pub type ServerService<S> = context::Context<
    observe::Observe<
        drain::Draining<panic::CatchPanic<deadline::EnforceDeadline<rate_limit::RateLimit<shed::Shed<S>>>>>,
    >,
>;

/// The server stack; see the [module](self) for what is in it and why in that order.
pub fn stack(config: ServerConfig) -> Result<ServerStack, ConfigError> {
    config.validate()?;
    names::describe();
    let observe = observe::ObserveLayer::new(config.route);
    Ok(ServerStack {
        context: context::ContextLayer::new(config.deadline),
        drain: Drain::new(observe.in_flight()),
        observe,
        deadline: deadline::DeadlineLayer::new(config.deadline, config.deadline_grace),
        rate_limit: rate_limit::RateLimitLayer::new(config.rate_limit),
        limiter: Limiter::boxed(config.limit.build(), config.queue),
    })
}

impl ServerStack {
    /// The switch that turns new requests away.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// The concurrency limit and its queue, to look at.
    pub fn limiter(&self) -> Arc<Limiter> {
        Arc::clone(&self.limiter)
    }
}

impl<S> Layer<S> for ServerStack {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let service = shed::ShedLayer::new(Arc::clone(&self.limiter)).layer(inner);
        let service = self.deadline.layer(self.rate_limit.layer(service));
        let service = drain::DrainLayer::new(self.drain.clone()).layer(panic::CatchPanicLayer.layer(service));
        self.context.layer(self.observe.layer(service))
    }
}
