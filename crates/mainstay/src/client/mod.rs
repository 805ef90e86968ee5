//! The client side: one constructor that puts the layers in order.
//!
//! The layers, outermost first, with the reason for each position:
//!
//! | layer | reason |
//! |---|---|
//! | entry | a call has its context, its measurement and one outcome, whatever happens inside |
//! | [total deadline](crate::total_deadline) | bounds everything, waits between attempts included |
//! | [retry](crate::retry) | outside the layers of one attempt, so that each attempt is judged anew |
//! | [hedge](crate::hedge) | inside the retry, so that both calls of a read are one attempt of it; off by default |
//! | [throttle](crate::throttle) | inside the retry, which must not repeat a call that is held back; outside the bulkhead, because a held-back call needs no permit |
//! | [bulkhead](crate::bulkhead) | inside the retry: a call that waits for its next attempt holds no permit |
//! | [breaker](crate::breaker) | inside the bulkhead: only calls that are really made are counted |
//! | attempt | inside the breaker: a refused call is no attempt. Classifies the reply, once for all outer layers, with the [reader](ReplyReader) of a typed client if the request carries one |
//! | [attempt timeout](crate::attempt_timeout) | inside the breaker, which must see timeouts |
//! | stamp | innermost: the headers carry the time left for this attempt, and an attempt without time is not sent |
//! | fault (feature `faults`) | an injected fault passes through every layer, as a real one would |
//! | transport | |

mod attempt;
pub(crate) mod config;
mod entry;
#[cfg(feature = "hyper")]
mod hyper;
pub mod names {
    //! Metric names of the client side.
    pub use crate::client_names::*;
}
mod reply_reader;
mod stamp;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

pub use self::attempt::{Attempt, AttemptFuture, AttemptLayer};
pub use self::config::ClientConfig;
use self::entry::Entry;
#[cfg(feature = "hyper")]
pub use self::hyper::{HyperFuture, HyperTransport, TransportConfig};
pub use self::reply_reader::ReplyReader;
pub use self::stamp::{Stamp, StampFuture, StampLayer};
use crate::attempt_timeout::{AttemptTimeout, AttemptTimeoutLayer};
use crate::breaker::{Breaker, BreakerConfig, BreakerLayer, Breakers};
use crate::budget::RetryBudget;
use crate::bulkhead::{Bulkhead, BulkheadLayer};
pub use crate::call_error::{CallError, Cause};
pub use crate::config_error::ConfigError;
use crate::hedge::{Hedge, HedgeLayer};
use crate::random::Random;
use crate::retry::{Retry, RetryLayer};
use crate::throttle::{Throttle, ThrottleLayer};
use crate::total_deadline::{TotalDeadline, TotalDeadlineLayer};

#[cfg(feature = "faults")]
type Faulty<T> = crate::fault::ClientFault<T>;
#[cfg(not(feature = "faults"))]
type Faulty<T> = T;

type Whole<T> = Entry<
    TotalDeadline<Retry<Hedge<Throttle<Bulkhead<Breaker<Attempt<AttemptTimeout<Stamp<Faulty<T>>>>>>>>>>,
>;

/// Requests and replies are buffered: a request must be sendable again, and a reply counts only after its last byte
/// has arrived.
pub type ClientRequest = Request<Full<Bytes>>;

/// Builds the client stack for one dependency. Build it once, after the metrics recorder is installed (handles are
/// looked up here, once), and clone it: clones share every limit, budget, breaker and pool.
///
/// Fails when a setting is out of its range.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use mainstay::client::{self, ClientConfig, ClientRequest};
/// use mainstay::{CallError, Outcome, classify};
/// use tower::{ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let transport = service_fn(|_: ClientRequest| async { Ok::<_, CallError>(Response::new(Bytes::new())) });
/// let client = client::stack(ClientConfig::new("inventory"), transport)?;
/// let request = Request::get("http://127.0.0.1:8081/v1/items").body(Full::default())?;
/// let result = client.oneshot(request).await;
/// assert_eq!(classify::outcome(&result), Outcome::Success);
/// # Ok(())
/// # }
/// ```
pub fn stack<T>(config: ClientConfig, transport: T) -> Result<ClientStack<T>, ConfigError>
where
    T: Service<ClientRequest, Response = Response<Bytes>> + Clone,
    T::Error: Into<CallError>,
{
    config.validate()?;
    names::describe();
    let peer = &*config.peer;
    let random = config.seed.map_or_else(Random::from_entropy, Random::seeded);
    let budget = RetryBudget::new(&config.retry.budget)?;
    // With less time than that in all, half of it is slow: otherwise a call that its deadline ends would never count.
    let most = (config.total_timeout.saturating_sub(config.reserve) / 2).max(Duration::from_millis(1));
    let breaker = BreakerConfig { slow_call: config.breaker.slow_call.min(most), ..config.breaker };
    let breakers = Breakers::new(peer, breaker, random.clone())?;
    let retry = RetryLayer::new(peer, config.retry, budget.clone(), random.clone())?;
    let hedge = match config.hedge {
        Some(hedge) => HedgeLayer::new(peer, hedge, budget.clone())?,
        None => HedgeLayer::off(),
    };
    let total = TotalDeadlineLayer::new(peer, config.total_timeout, config.reserve);
    let total = total.least(config.least_attempt_time);
    let bulkhead = BulkheadLayer::new(peer, config.max_in_flight)?;

    #[cfg(feature = "faults")]
    let transport = crate::fault::ClientFault::new(transport, config.faults);
    let attempt = StampLayer::new(peer).layer(transport);
    let attempt = AttemptTimeoutLayer::new(peer, config.attempt_timeout)?.layer(attempt);
    let attempt = AttemptLayer::new(peer).layer(attempt);
    let attempt = BreakerLayer::new(breakers.clone()).layer(attempt);
    let attempt = bulkhead.layer(attempt);
    let throttle = ThrottleLayer::new(peer, config.throttle, random)?;
    let attempt = throttle.layer(attempt);
    let attempt = hedge.layer(attempt);
    let inner = total.layer(retry.layer(attempt));
    let whole = Entry { inner, shared: Arc::new(entry::CallMeters::new(peer, config.total_timeout)) };
    Ok(ClientStack { whole, parts: Arc::new(Parts { breakers, budget, bulkhead, throttle }) })
}

/// A client for one dependency; see [`stack`]. Always ready.
#[derive(Debug, Clone)]
pub struct ClientStack<T> {
    whole: Whole<T>,
    parts: Arc<Parts>,
}

/// Shared parts whose state can be read or changed from outside.
#[derive(Debug)]
struct Parts {
    breakers: Breakers,
    budget: RetryBudget,
    bulkhead: BulkheadLayer,
    throttle: ThrottleLayer,
}

impl<T> ClientStack<T> {
    /// The breakers, one for each endpoint called so far.
    pub fn breakers(&self) -> &Breakers {
        &self.parts.breakers
    }

    /// The retry budget.
    pub fn budget(&self) -> &RetryBudget {
        &self.parts.budget
    }

    pub(crate) fn bulkhead(&self) -> &BulkheadLayer {
        &self.parts.bulkhead
    }

    pub(crate) fn throttle(&self) -> &ThrottleLayer {
        &self.parts.throttle
    }

    /// Calls in flight now.
    pub fn in_flight(&self) -> usize {
        self.parts.bulkhead.in_flight()
    }
}

impl<T> Service<ClientRequest> for ClientStack<T>
where
    T: Service<ClientRequest, Response = Response<Bytes>> + Clone,
    T::Error: Into<CallError>,
{
    type Response = Response<Bytes>;
    type Error = CallError;
    type Future = ClientFuture<T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.whole.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: ClientRequest) -> Self::Future {
        ClientFuture { call: self.whole.call(request) }
    }
}

pin_project! {
    /// A call through the stack. Dropping it cancels the call: the attempt in flight is dropped and recorded as
    /// cancelled, every permit is returned, and the call's effect at the peer is unknown.
    pub struct ClientFuture<T>
    where
        T: Service<ClientRequest, Response = Response<Bytes>>,
        T: Clone,
        T::Error: Into<CallError>,
    {
        #[pin]
        call: <Whole<T> as Service<ClientRequest>>::Future,
    }
}

impl<T> std::fmt::Debug for ClientFuture<T>
where
    T: Service<ClientRequest, Response = Response<Bytes>> + Clone,
    T::Error: Into<CallError>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientFuture").finish_non_exhaustive()
    }
}

impl<T> Future for ClientFuture<T>
where
    T: Service<ClientRequest, Response = Response<Bytes>> + Clone,
    T::Error: Into<CallError>,
{
    type Output = Result<Response<Bytes>, CallError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}
