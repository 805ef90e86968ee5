//! The server side: the layers between a listener and its handlers.
//!
//! [`stack`] puts the layers together in the one order that works, outermost first:
//!
//! 1. [`context`]: correlation id, trace, deadline, attempt, priority. First, so that every inner layer can name the
//!    request, and last on the way out, so that every reply carries its id.
//! 2. [`observe`]: the canonical log line, metrics and a span. Outside the layers that refuse or panic, so that it
//!    records their replies.
//! 3. [`drain`]: refuses new requests during shutdown. Early, because this refusal is the cheapest.
//! 4. [`panic`](mod@panic): turns a panic into a reply. Outside the layers that hold permits and timers, which
//!    unwinding returns.
//! 5. [`deadline`]: refuses expired requests before they use quota or a slot in the queue.
//! 6. [`rate_limit`]: refuses a principal over its quota before it takes another principal's slot in the queue.
//! 7. [`body_limit`]: refuses a body announced as too large before it takes a slot in the queue; other bodies are cut
//!    off while they are read.
//! 8. [`read_body`]: reads the body before a permit is taken, so that slow bodies hold none. Inside the quota,
//!    because a slow body must use quota.
//! 9. [`shed`]: takes a permit last, and holds it only while there is work.
//!
//! Each layer also works alone: it makes the parts of the request's context that it needs when no outer layer has
//! made them.

pub mod body_limit;
pub mod config;
pub mod context;
pub mod deadline;
mod decide;
pub mod drain;
pub mod head;
pub mod log_fields;
mod meters;
pub mod names;
pub mod observe;
pub mod panic;
pub mod rate_limit;
pub mod read_body;
mod record;
pub mod shed;

use std::borrow::Cow;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Serialize;
use tower::Layer;

pub use config::{LimitConfig, ServerConfig};
pub use context::DeadlinePolicy;
pub use drain::Drain;
pub use head::RequestHead;
pub use log_fields::LogFields;
pub use observe::RouteLabel;
pub use rate_limit::{RateLimitConfig, RateLimitSnapshot};
pub use read_body::ReadBodyConfig;
pub use record::{CANONICAL, FinishedRequest, ObserverFn};

pub use crate::config_error::ConfigError;
use crate::limit::{Limiter, LimiterSnapshot};

/// All layers, in order. Clones, and every service to which the stack is applied, share one limit, one queue, one set
/// of quotas and one drain. So applying it again (as routers do for each route and connection) does not multiply a
/// limit.
#[derive(Debug, Clone)]
pub struct ServerStack {
    context: context::ContextLayer,
    observe: observe::ObserveLayer,
    drain: Drain,
    deadline: deadline::DeadlineLayer,
    rate_limit: rate_limit::RateLimitLayer,
    body_limit: body_limit::BodyLimitLayer,
    read_body: read_body::ReadBodyLayer,
    limiter: Arc<Limiter>,
}

/// A stack's state at one moment. Its parts are read one after the other, so under load they may differ by a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerSnapshot {
    /// Requests admitted, whose reply has not ended.
    pub in_flight: usize,
    /// Those of the requests in flight whose body is being read.
    pub reading: usize,
    /// Whether new requests are refused.
    pub draining: bool,
    /// Permits and queue.
    pub limiter: LimiterSnapshot,
    /// Quotas, if there are any.
    pub rate_limit: Option<RateLimitSnapshot>,
}

/// The service that [`ServerStack`] makes from an inner service. The inner service gets requests with a body that has
/// been read, or that is unread and ends at the limit: a [`ReceivedBody`](read_body::ReceivedBody) of a
/// [`LimitedBody`](body_limit::LimitedBody).
pub type ServerService<S> = context::Context<
    observe::Observe<
        drain::Draining<
            panic::CatchPanic<
                deadline::EnforceDeadline<
                    rate_limit::RateLimit<body_limit::BodyLimit<read_body::ReadBody<shed::Shed<S>>>>,
                >,
            >,
        >,
    >,
>;

/// The server stack. The [module](self) lists its layers and the reason for their order.
///
/// ```
/// use axum::extract::MatchedPath;
/// use axum::{Router, routing::get};
/// use mainstay::server::{ServerConfig, stack};
///
/// let config = ServerConfig::default()
///     .route(|head| head.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned().into()));
/// let stack = stack(config)?;
/// let drain = stack.drain();
/// let app: Router = Router::new().route("/orders/{id}", get(|| async { "an order" })).layer(stack);
/// # Ok::<(), mainstay::ConfigError>(())
/// ```
pub fn stack(config: ServerConfig) -> Result<ServerStack, ConfigError> {
    config.validate()?;
    names::describe();
    let observe = observe::ObserveLayer::new(config.route).observer(config.observer);
    Ok(ServerStack {
        context: context::ContextLayer::new(config.deadline).priority_ceiling(config.priority_ceiling),
        drain: Drain::default(),
        observe,
        deadline: deadline::DeadlineLayer::new(config.deadline, config.deadline_grace),
        rate_limit: rate_limit::RateLimitLayer::new(config.rate_limit),
        body_limit: body_limit::BodyLimitLayer::new(config.max_body),
        read_body: read_body::ReadBodyLayer::new(config.read_body),
        limiter: Limiter::boxed(config.limit.build(), config.queue),
    })
}

impl ServerStack {
    /// The switch that refuses new requests.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Starts the series of a route at zero, for each of `statuses` and for the replies of the layers themselves. Call it
    /// for every route before the first request: a series that begins above zero has no increase.
    pub fn expect(
        &self,
        route: impl Into<Cow<'static, str>>,
        method: &Method,
        statuses: impl IntoIterator<Item = StatusCode>,
    ) {
        let own =
            [408, 413, 429, 500, 503, 504].into_iter().filter_map(|status| StatusCode::from_u16(status).ok());
        self.observe.expect(route, method, statuses.into_iter().chain(own));
    }

    /// The stack's current state, for a registry or an admin page. Takes the limiter's lock for a short time.
    pub fn snapshot(&self) -> ServerSnapshot {
        ServerSnapshot {
            in_flight: self.drain.in_flight(),
            reading: self.read_body.reading(),
            draining: self.drain.is_draining(),
            limiter: self.limiter.snapshot(),
            rate_limit: self.rate_limit.snapshot(),
        }
    }

    pub(crate) fn quotas(&self) -> &rate_limit::RateLimitLayer {
        &self.rate_limit
    }

    /// The concurrency limit and its queue, for reading its state.
    pub fn limiter(&self) -> Arc<Limiter> {
        Arc::clone(&self.limiter)
    }
}

impl<S> Layer<S> for ServerStack {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let service = shed::ShedLayer::new(Arc::clone(&self.limiter)).layer(inner);
        let service = self.body_limit.layer(self.read_body.layer(service));
        let service = self.rate_limit.layer(service);
        let service = self.deadline.layer(service);
        let service = drain::DrainLayer::new(self.drain.clone()).layer(panic::CatchPanicLayer.layer(service));
        self.context.layer(self.observe.layer(service))
    }
}
