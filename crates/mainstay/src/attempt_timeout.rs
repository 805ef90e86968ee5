//! Timeout of one attempt. It covers the wait until the transport is ready, connecting, sending, and (with a
//! transport that buffers, as [`HyperTransport`](crate::client::HyperTransport) does) the reply's body to its last
//! byte.
//!
//! * The call is polled before the timer, so that a reply that has arrived is not lost.
//! * A timeout is an error, so that a breaker outside counts it. (A reply `Ok(504)` would count as an answer.)
//! * The timer exists only once the call has had to wait.
//! * An attempt that is cut off is counted in `mainstay_client_timeouts_total{limit="attempt"}`. An attempt without
//!   time to begin is counted in `mainstay_client_rejected_total`. Both are decisions on the trail.
//!
//! ```
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use mainstay::{CallError, attempt_timeout::AttemptTimeoutLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let silent = service_fn(|_: Request<Bytes>| std::future::pending::<Result<Response<Bytes>, CallError>>());
//! let client = AttemptTimeoutLayer::new("inventory", Duration::from_millis(5))?.layer(silent);
//! let error = client.oneshot(Request::new(Bytes::new())).await.unwrap_err();
//! assert!(matches!(error, CallError::AttemptTimedOut { .. }));
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
use tower::util::Oneshot;
use tower::{Layer, Service};

use crate::builder::Builder;
use crate::classify::{Classify, Http, Plain, ReadRequest};
use crate::client_names as names;
use crate::config_error::{Check, ConfigError};
use crate::context::RequestSummary;
use crate::decision::{Decided, Level};
use crate::{CallError, Deadline, clock};

#[derive(Debug)]
struct Limit {
    peer: Arc<str>,
    timeout: Duration,
    timeouts: Counter,
    rejected: Counter,
}

impl Limit {
    #[cold]
    fn refuse(&self, summary: Option<&RequestSummary>) -> CallError {
        self.rejected.increment(1);
        self.decided("reject", "no time left to begin the attempt".to_owned(), summary);
        CallError::DeadlineTooNear { left: Duration::ZERO, needed: Duration::ZERO }
    }

    #[cold]
    fn cut_off(&self, after: Duration, summary: Option<&RequestSummary>) -> CallError {
        self.timeouts.increment(1);
        let own = after >= self.timeout;
        let limit = if own { "the attempt timeout" } else { "the time left to the deadline" };
        self.decided("cut_off", format!("no reply within {} ms, {limit}", after.as_millis()), summary);
        CallError::AttemptTimedOut { after }
    }

    fn decided(&self, action: &'static str, why: String, summary: Option<&RequestSummary>) {
        let (layer, peer, level) = ("attempt_timeout", Some(&*self.peer), Level::Info);
        Decided { layer, action, why, peer, endpoint: None, level }.record(summary);
    }
}

/// Layer that ends each attempt after its timeout.
#[derive(Debug, Clone)]
pub struct AttemptTimeoutLayer<C = Http> {
    limit: Arc<Limit>,
    classify: C,
}

/// The setting of an attempt timeout, for [`AttemptTimeoutLayer::builder`].
#[derive(Debug, Clone)]
pub struct Timeout(pub(crate) Duration);

impl Default for Timeout {
    fn default() -> Self {
        Self(Duration::from_secs(1))
    }
}

impl AttemptTimeoutLayer {
    /// A layer for HTTP: each attempt at `peer` gets `timeout` (1 ms to 10 min), or the time to the request's
    /// deadline if that is shorter.
    pub fn new(peer: &str, timeout: Duration) -> Result<Self, ConfigError> {
        Self::classified(peer, timeout, Http)
    }

    /// A layer for any service. Without further settings an attempt gets 1 s.
    pub fn builder(peer: &str) -> Builder<Timeout, Plain> {
        Builder::new(peer)
    }
}

impl<C> AttemptTimeoutLayer<C> {
    /// A layer that reads requests by `classify`.
    pub fn classified(peer: &str, timeout: Duration, classify: C) -> Result<Self, ConfigError> {
        let range = Duration::from_millis(1)..=Duration::from_mins(10);
        let mut check = Check::default();
        check.within("attempt_timeout", &timeout, range, "1 ms to 10 min");
        check.finish()?;
        let name = || peer.to_owned();
        let limit = Arc::new(Limit {
            peer: peer.into(),
            timeout,
            timeouts: counter!(names::TIMEOUTS, "peer" => name(), "limit" => "attempt"),
            rejected: counter!(names::REJECTED, "peer" => name(), "reason" => "deadline-too-near"),
        });
        Ok(Self { limit, classify })
    }
}

impl<C> Builder<Timeout, C> {
    /// Time for one attempt; 1 ms to 10 min. Default 1 s.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.config(Timeout(timeout))
    }

    /// The layer. Fails when the timeout is out of its range.
    pub fn build(self) -> Result<AttemptTimeoutLayer<C>, ConfigError> {
        AttemptTimeoutLayer::classified(&self.peer, self.config.0, self.classify)
    }
}

impl<S, C: Clone> Layer<S> for AttemptTimeoutLayer<C> {
    type Service = AttemptTimeout<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptTimeout { inner, layer: self.clone() }
    }
}

/// The service of [`AttemptTimeoutLayer`]. It is always ready: the inner service's readiness is awaited inside the
/// attempt, under its timer (tower's `Timeout` does not limit that wait).
#[derive(Debug, Clone)]
pub struct AttemptTimeout<S, C = Http> {
    inner: S,
    layer: AttemptTimeoutLayer<C>,
}

impl<S, C, Req> Service<Req> for AttemptTimeout<S, C>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error> + ReadRequest<Req> + Clone,
{
    type Response = S::Response;
    type Error = C::Error;
    type Future = AttemptTimeoutFuture<Oneshot<S, Req>, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let AttemptTimeoutLayer { limit, classify } = self.layer.clone();
        let began = clock::now();
        let mut until = Deadline::at(began + limit.timeout);
        let mut summary = None;
        if let Some(context) = classify.context_mut(&mut request) {
            until = until.earliest(context.deadline);
            // The peer gets the attempt's own deadline, so that it does not work for longer than the attempt
            // waits.
            context.deadline = until;
            summary = Some(RequestSummary::from(&*context));
        }
        let call = Oneshot::new(self.inner.clone(), request);
        let until = until.instant();
        AttemptTimeoutFuture(Box::pin(Timed { call, timer: None, began, until, limit, summary, classify }))
    }
}

/// The attempt with its timer. Dropping it drops the attempt. Boxed, because it holds the request, the service and
/// the timer, which every outer layer would otherwise move once more.
#[derive(Debug)]
pub struct AttemptTimeoutFuture<F, C>(Pin<Box<Timed<F, C>>>);

pin_project! {
    #[derive(Debug)]
    struct Timed<F, C> {
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

impl<F, C, R, E> Future for AttemptTimeoutFuture<F, C>
where
    F: Future<Output = Result<R, E>>,
    C: Classify<R, E>,
{
    type Output = Result<R, C::Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.0.as_mut().project();
        if this.timer.is_none() && *this.until <= clock::now() {
            // The deadline passed before the first poll, so the attempt does not begin.
            return Poll::Ready(Err(this.classify.rejected(this.limit.refuse(this.summary.as_ref()))));
        }
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
