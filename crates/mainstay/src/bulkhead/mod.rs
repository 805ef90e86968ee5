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

use crate::metric::{Counter, Gauge, counter, gauge};
use pin_project_lite::pin_project;
use serde::Serialize;
use tower::{Layer, Service};

pub use self::streaming::{Streaming, StreamingBulkhead, StreamingBulkheadFuture, StreamingBulkheadLayer};
use crate::builder::Builder;
use crate::classify::{Classify, Http, Plain, ReadRequest};
use crate::client_names as names;
use crate::config_error::{Check, ConfigError};
use crate::decision::{Decided, Level};
use crate::sync::{AtomicUsize, Ordering};
use crate::{CallError, Gate, RequestContext};

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
pub(crate) struct Limit {
    peer: Arc<str>,
    in_flight: InFlight,
    gauge: Gauge,
    rejected: Counter,
}

/// Layer that limits the calls in flight. Clones of the layer, and services made from it, share the limit.
#[derive(Debug, Clone)]
pub struct BulkheadLayer<C = Http> {
    limit: Arc<Limit>,
    classify: C,
}

/// The setting of a bulkhead, for [`BulkheadLayer::builder`].
#[derive(Debug, Clone)]
pub struct MaxInFlight(pub(crate) usize);

impl Default for MaxInFlight {
    fn default() -> Self {
        Self(256)
    }
}

impl BulkheadLayer {
    /// A layer for HTTP: at most `limit` calls (1 to 1,000,000) to `peer` at the same time.
    pub fn new(peer: &str, limit: usize) -> Result<Self, ConfigError> {
        Self::classified(peer, limit, Http)
    }

    /// A layer for any service. Without further settings it admits 256 calls.
    pub fn builder(peer: &str) -> Builder<MaxInFlight, Plain> {
        Builder::new(peer)
    }

    /// A layer with the same limit, for a transport that returns a reply before its body has ended.
    pub fn streaming(&self) -> StreamingBulkheadLayer {
        StreamingBulkheadLayer(self.clone())
    }
}

impl<C> BulkheadLayer<C> {
    /// A layer that reads requests by `classify`.
    pub fn classified(peer: &str, limit: usize, classify: C) -> Result<Self, ConfigError> {
        let mut check = Check::default();
        check.within("max_in_flight", &limit, 1..=1_000_000, "1 to 1,000,000");
        check.finish()?;
        let name = peer.to_owned();
        let limit = Arc::new(Limit {
            peer: peer.into(),
            in_flight: InFlight::new(limit),
            gauge: gauge!(names::IN_FLIGHT, "peer" => name.clone()),
            rejected: counter!(names::REJECTED, "peer" => name, "reason" => "bulkhead-full"),
        });
        Ok(Self { limit, classify })
    }

    fn enter<Req>(&self, request: &Req) -> Result<BulkheadPermit, CallError>
    where
        C: ReadRequest<Req>,
    {
        if self.limit.in_flight.try_enter() {
            self.limit.gauge.increment(1.0);
            Ok(BulkheadPermit(Arc::clone(&self.limit)))
        } else {
            Err(self.limit.refuse(self.classify.context(request)))
        }
    }

    /// Calls in flight now.
    pub fn in_flight(&self) -> usize {
        self.limit.in_flight.count()
    }

    /// A weak reference, for a registry that observes the bulkhead without keeping it alive.
    pub(crate) fn downgrade(&self) -> Weak<Limit> {
        Arc::downgrade(&self.limit)
    }
}

impl<C> Builder<MaxInFlight, C> {
    /// Calls at the same time; 1 to 1,000,000. Default 256.
    pub fn limit(self, limit: usize) -> Self {
        self.config(MaxInFlight(limit))
    }

    /// The layer. Fails when the limit is out of its range.
    pub fn build(self) -> Result<BulkheadLayer<C>, ConfigError> {
        BulkheadLayer::classified(&self.peer, self.config.0, self.classify)
    }
}

impl<S, C: Clone> Layer<S> for BulkheadLayer<C> {
    type Service = Bulkhead<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Bulkhead { inner, layer: self.clone() }
    }
}

/// The service of [`BulkheadLayer`].
#[derive(Debug, Clone)]
pub struct Bulkhead<S, C = Http> {
    inner: S,
    layer: BulkheadLayer<C>,
}

impl<S, C, Req> Service<Req> for Bulkhead<S, C>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + ReadRequest<Req> + Clone,
{
    type Response = S::Response;
    type Error = C::Error;
    type Future = BulkheadFuture<S::Future, C, C::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(|error| self.layer.classify.inner(error))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let classify = self.layer.classify.clone();
        match self.layer.enter(&request) {
            Ok(permit) => Gate::open(InBulkhead { call: self.inner.call(request), permit, classify }),
            Err(error) => Gate::refused(classify.rejected(error)),
        }
    }
}

impl Limit {
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
pub struct BulkheadPermit(Arc<Limit>);

impl Drop for BulkheadPermit {
    fn drop(&mut self) {
        self.0.in_flight.leave();
        self.0.gauge.decrement(1.0);
    }
}

/// The future of [`Bulkhead`]: a call with its permit, or its refusal.
pub type BulkheadFuture<F, C, E> = Gate<InBulkhead<F, C>, E>;

pin_project! {
    /// A call with its permit. Dropping it returns the permit.
    #[derive(Debug)]
    pub struct InBulkhead<F, C> {
        #[pin]
        call: F,
        permit: BulkheadPermit,
        classify: C,
    }
}

impl<F, C, R, E> Future for InBulkhead<F, C>
where
    F: Future<Output = Result<R, E>>,
    C: Classify<R, E>,
{
    type Output = Result<R, C::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.call.poll(cx).map_err(|error| this.classify.inner(error))
    }
}
