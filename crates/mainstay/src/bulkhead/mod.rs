//! Bulkhead: a limit on calls in flight to one dependency, so that a slow dependency cannot take every task, socket
//! and byte of this process. A full bulkhead refuses at once, because a queue in front of a slow dependency only
//! makes calls older.
//!
//! The permit is taken in `call` and not in `poll_ready`: a service that is only ready holds no permit. (tower's
//! `LoadShed` over `ConcurrencyLimit` can shed everything while no call is in flight, because an idle clone holds the
//! freed permit.)
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use mainstay::{CallError, bulkhead::BulkheadLayer};
//! use tower::{Layer, Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let peer = service_fn(|_: Request<Bytes>| async { Ok::<_, CallError>(Response::new(Bytes::new())) });
//! let mut client = BulkheadLayer::new("inventory", 1)?.layer(peer);
//! let held = client.ready().await?.call(Request::new(Bytes::new()));
//! let refused = client.ready().await?.call(Request::new(Bytes::new())).await;
//! assert!(matches!(refused, Err(CallError::BulkheadFull { limit: 1, .. })));
//! drop(held);
//! assert!(client.ready().await?.call(Request::new(Bytes::new())).await.is_ok());
//! # Ok(())
//! # }
//! ```

mod streaming;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use http::Request;
use metrics::{Counter, Gauge, counter, gauge};
use pin_project_lite::pin_project;
use serde::Serialize;
use tower::{Layer, Service};

pub use self::streaming::{StreamingBulkhead, StreamingBulkheadFuture, StreamingBulkheadLayer};
use crate::client::names;
use crate::config_error::{Check, ConfigError};
use crate::decision::{Decided, Level};
use crate::sync::{AtomicUsize, Ordering};
use crate::{CallError, RequestContext};

/// A counter of calls in flight that does not exceed its limit.
#[derive(Debug)]
pub(crate) struct InFlight {
    limit: usize,
    now: AtomicUsize,
}

impl InFlight {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, now: AtomicUsize::new(0) }
    }

    /// Takes a permit if there is one. It uses compare-and-swap and not add-and-undo: a refused caller must not cause
    /// the refusal of another caller for whom there is room.
    pub(crate) fn try_enter(&self) -> bool {
        let mut seen = self.now.load(Ordering::Relaxed);
        while seen < self.limit {
            match self.now.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(current) => seen = current,
            }
        }
        false
    }

    pub(crate) fn leave(&self) {
        self.now.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn count(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }
}

/// A bulkhead's counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BulkheadSnapshot {
    /// Calls allowed at the same time.
    pub limit: usize,
    /// Calls in flight.
    pub in_flight: usize,
}

#[derive(Debug)]
pub(crate) struct Shared {
    peer: Arc<str>,
    in_flight: InFlight,
    gauge: Gauge,
    rejected: Counter,
}

/// Layer that limits the calls in flight. Clones of the layer, and services made from it, share the limit.
#[derive(Debug, Clone)]
pub struct BulkheadLayer(Arc<Shared>);

impl BulkheadLayer {
    /// At most `limit` calls (1 to 1,000,000) to `peer` at the same time.
    pub fn new(peer: &str, limit: usize) -> Result<Self, ConfigError> {
        let mut check = Check::default();
        check.within("max_in_flight", &limit, 1..=1_000_000, "1 to 1,000,000");
        check.finish()?;
        let name = peer.to_owned();
        Ok(Self(Arc::new(Shared {
            peer: peer.into(),
            in_flight: InFlight::new(limit),
            gauge: gauge!(names::IN_FLIGHT, "peer" => name.clone()),
            rejected: counter!(names::REJECTED, "peer" => name, "reason" => "bulkhead-full"),
        })))
    }

    /// A layer with the same limit, for a transport that returns a reply before its body has ended.
    pub fn streaming(&self) -> StreamingBulkheadLayer {
        StreamingBulkheadLayer(self.clone())
    }

    fn enter<B>(&self, request: &Request<B>) -> Result<BulkheadPermit, CallError> {
        if self.0.in_flight.try_enter() {
            self.0.gauge.increment(1.0);
            Ok(BulkheadPermit(Arc::clone(&self.0)))
        } else {
            Err(self.0.refuse(request.extensions().get()))
        }
    }

    /// Calls in flight now.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.count()
    }

    /// A weak reference, for a registry that observes the bulkhead without keeping it alive.
    pub(crate) fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.0)
    }
}

impl<S> Layer<S> for BulkheadLayer {
    type Service = Bulkhead<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Bulkhead { inner, layer: self.clone() }
    }
}

/// The service of [`BulkheadLayer`].
#[derive(Debug, Clone)]
pub struct Bulkhead<S> {
    inner: S,
    layer: BulkheadLayer,
}

impl<S, B> Service<Request<B>> for Bulkhead<S>
where
    S: Service<Request<B>>,
    S::Error: Into<CallError>,
{
    type Response = S::Response;
    type Error = CallError;
    type Future = BulkheadFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let state = match self.layer.enter(&request) {
            Ok(permit) => State::Running { call: self.inner.call(request), permit },
            Err(error) => State::Rejected { error: Some(error) },
        };
        BulkheadFuture { state }
    }
}

impl Shared {
    pub(crate) fn snapshot(&self) -> BulkheadSnapshot {
        BulkheadSnapshot { limit: self.in_flight.limit, in_flight: self.in_flight.count() }
    }

    #[cold]
    fn refuse(&self, context: Option<&RequestContext>) -> CallError {
        self.rejected.increment(1);
        let limit = self.in_flight.limit;
        Decided {
            layer: "bulkhead",
            action: "reject",
            why: format!("{limit} calls in flight, which is the limit"),
            peer: Some(&self.peer),
            endpoint: None,
            level: Level::Info,
        }
        .record(context);
        CallError::BulkheadFull { peer: Arc::clone(&self.peer), limit }
    }
}

/// The permit of one call, returned on drop.
#[derive(Debug)]
pub struct BulkheadPermit(Arc<Shared>);

impl Drop for BulkheadPermit {
    fn drop(&mut self) {
        self.0.in_flight.leave();
        self.0.gauge.decrement(1.0);
    }
}

pin_project! {
    /// The call with its permit. Dropping it returns the permit.
    #[derive(Debug)]
    pub struct BulkheadFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Rejected { error: Option<CallError> },
        Running {
            #[pin]
            call: F,
            permit: BulkheadPermit,
        },
    }
}

impl<F, R, E> Future for BulkheadFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: Into<CallError>,
{
    type Output = Result<R, CallError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Rejected { error } => {
                Poll::Ready(Err(error.take().expect("a future is not polled after it is ready")))
            }
            StateProj::Running { call, .. } => call.poll(cx).map_err(Into::into),
        }
    }
}
