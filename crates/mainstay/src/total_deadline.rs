//! Timeout of a whole call, retries and waits included, and the reserve that this hop keeps for itself.
//!
//! It is the outermost limit of a client stack, and the inner layers work with the deadline that it sets. A retry
//! whose wait cannot fit does not begin, an attempt ends at this deadline, and the remaining time is sent in
//! `X-Deadline-Ms`. A call that is cut off is counted in `mainstay_client_timeouts_total{limit="total"}`. A call that
//! is refused for lack of time is counted in `mainstay_client_rejected_total`. Both are decisions on the trail.
//!
//! ```
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use mainstay::{CallError, RequestContext, total_deadline::TotalDeadlineLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let peer = service_fn(|_: Request<Bytes>| async { Ok::<_, CallError>(Response::new(Bytes::new())) });
//! let layer = TotalDeadlineLayer::new("inventory", Duration::from_secs(2), Duration::from_millis(50));
//! let mut late = Request::new(Bytes::new());
//! late.extensions_mut().insert(RequestContext::background(Duration::from_millis(50)));
//! let refused = layer.layer(peer).oneshot(late).await;
//! assert!(matches!(refused, Err(CallError::DeadlineTooNear { .. })));
//! # Ok(())
//! # }
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::metric::{Counter, counter};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower::{Layer, Service};

use crate::classify::{Classify, Http, Plain, ReadRequest};
use crate::client_names as names;
use crate::context::RequestSummary;
use crate::decision::{Decided, HasRequestIdentity, Level};
use crate::{CallError, Deadline, Gate, RequestContext, clock};

#[derive(Debug, Clone)]
struct Limit {
    peer: Arc<str>,
    total: Duration,
    reserve: Duration,
    least: Duration,
    rejected: Counter,
    timeouts: Counter,
}

impl Limit {
    #[cold]
    fn refuse(&self, left: Duration, context: Option<&RequestContext>) -> CallError {
        self.rejected.increment(1);
        let (left_us, reserve) = (left.as_micros(), self.reserve.as_millis());
        let least = self.least.as_micros();
        let why = format!("{left_us} us left after {reserve} ms of reserve, {least} us needed");
        self.decided("reject", why, context);
        CallError::DeadlineTooNear { left, needed: self.least }
    }

    #[cold]
    fn cut_off(&self, after: Duration, summary: Option<&RequestSummary>) -> CallError {
        self.timeouts.increment(1);
        self.decided("cut_off", format!("no reply within {} ms", after.as_millis()), summary);
        CallError::DeadlineExceeded { after }
    }

    fn decided(&self, action: &'static str, why: String, summary: Option<&impl HasRequestIdentity>) {
        let (layer, peer, level) = ("deadline", Some(&*self.peer), Level::Info);
        Decided { layer, action, why, peer, endpoint: None, level }.record(summary);
    }
}

/// Layer that bounds whole calls.
#[derive(Debug, Clone)]
pub struct TotalDeadlineLayer<C = Http> {
    limit: Arc<Limit>,
    classify: C,
}

impl TotalDeadlineLayer {
    /// A layer for HTTP: a call to `peer` may take `total`, or its caller's deadline less `reserve` if that is
    /// shorter. More than a day is taken as a day.
    pub fn new(peer: &str, total: Duration, reserve: Duration) -> Self {
        let name = || peer.to_owned();
        let limit = Arc::new(Limit {
            peer: peer.into(),
            total: total.min(Duration::from_hours(24)),
            reserve,
            least: Duration::from_millis(1),
            rejected: counter!(names::REJECTED, "peer" => name(), "reason" => "deadline-too-near"),
            timeouts: counter!(names::TIMEOUTS, "peer" => name(), "limit" => "total"),
        });
        Self { limit, classify: Http }
    }

    /// A layer for any service: a call to `peer` may take `total`.
    pub fn plain(peer: &str, total: Duration) -> TotalDeadlineLayer<Plain> {
        Self::new(peer, total, Duration::ZERO).classified(Plain)
    }
}

impl<C> TotalDeadlineLayer<C> {
    /// The same limit for a service whose requests and results are read by `classify`.
    pub fn classified<D>(self, classify: D) -> TotalDeadlineLayer<D> {
        TotalDeadlineLayer { limit: self.limit, classify }
    }

    /// Refuses a call that has less time than `least` (default 1 ms, the unit of `X-Deadline-Ms`; at most a day).
    #[must_use]
    pub fn least(self, least: Duration) -> Self {
        let limit = Limit { least: least.min(Duration::from_hours(24)), ..(*self.limit).clone() };
        Self { limit: Arc::new(limit), ..self }
    }
}

impl<S, C: Clone> Layer<S> for TotalDeadlineLayer<C> {
    type Service = TotalDeadline<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        TotalDeadline { inner, layer: self.clone() }
    }
}

/// The service of [`TotalDeadlineLayer`].
#[derive(Debug, Clone)]
pub struct TotalDeadline<S, C = Http> {
    inner: S,
    layer: TotalDeadlineLayer<C>,
}

impl<S, C, Req> Service<Req> for TotalDeadline<S, C>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + ReadRequest<Req> + Clone,
{
    type Response = S::Response;
    type Error = C::Error;
    type Future = TotalDeadlineFuture<S::Future, C, C::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(|error| self.layer.classify.inner(error))
    }

    #[inline]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let TotalDeadlineLayer { limit, classify } = &self.layer;
        let began = clock::now();
        let mut until = Deadline::at(began + limit.total);
        let mut summary = None;
        if let Some(context) = classify.context_mut(&mut request) {
            until = until.earliest(context.deadline.less(limit.reserve));
            context.deadline = until;
            summary = Some(RequestSummary::from(&*context));
        }
        let until = until.instant().max(began);
        // Compare instants: a subtraction costs more and is needed for a refusal only.
        if until < began + limit.least {
            let error = limit.refuse(until - began, classify.context(&request));
            return Gate::refused(classify.rejected(error));
        }
        let (limit, classify) = (Arc::clone(limit), classify.clone());
        let call = self.inner.call(request);
        Gate::open(Timed { call, timer: None, began, until, limit, summary, classify })
    }
}

/// The future of [`TotalDeadline`]: a call with its timer, or its refusal. Dropping it drops the call.
pub type TotalDeadlineFuture<F, C, E> = Gate<Timed<F, C>, E>;

pin_project! {
    /// A call with its timer.
    #[derive(Debug)]
    pub struct Timed<F, C> {
        #[pin]
        call: F,
        #[pin]
        timer: Option<Sleep>,
        began: Instant,
        until: Instant,
        limit: Arc<Limit>,
        summary: Option<RequestSummary>,
        classify: C,
    }
}

impl<F, C, R, E> Future for Timed<F, C>
where
    F: Future<Output = Result<R, E>>,
    C: Classify<R, E>,
{
    type Output = Result<R, C::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(result) = this.call.poll(cx) {
            return Poll::Ready(result.map_err(|error| this.classify.inner(error)));
        }
        if this.timer.is_none() {
            this.timer.set(Some(tokio::time::sleep_until(*this.until)));
        }
        let timer = this.timer.as_pin_mut().expect("set just above");
        timer.poll(cx).map(|()| {
            let after = clock::now().saturating_duration_since(*this.began);
            Err(this.classify.rejected(this.limit.cut_off(after, this.summary.as_ref())))
        })
    }
}
