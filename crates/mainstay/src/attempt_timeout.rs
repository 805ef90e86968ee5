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

use http::Request;
use metrics::{Counter, counter};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower::util::Oneshot;
use tower::{Layer, Service};

use crate::client::names;
use crate::config_error::{Check, ConfigError};
use crate::context::RequestSummary;
use crate::decision::{Decided, Level};
use crate::{CallError, Deadline, RequestContext, clock};

#[derive(Debug)]
struct Shared {
    peer: Arc<str>,
    timeout: Duration,
    timeouts: Counter,
    rejected: Counter,
}

impl Shared {
    #[cold]
    fn decided(&self, action: &'static str, why: String, summary: Option<&RequestSummary>) {
        let (layer, peer, level) = ("attempt_timeout", Some(&*self.peer), Level::Info);
        Decided { layer, action, why, peer, endpoint: None, level }.record(summary);
    }
}

/// Layer that ends each attempt after its timeout.
#[derive(Debug, Clone)]
pub struct AttemptTimeoutLayer(Arc<Shared>);

impl AttemptTimeoutLayer {
    /// Each attempt at `peer` gets `timeout` (1 ms to 10 min), or the time to the request's deadline if that is
    /// shorter.
    pub fn new(peer: &str, timeout: Duration) -> Result<Self, ConfigError> {
        let range = Duration::from_millis(1)..=Duration::from_mins(10);
        let mut check = Check::default();
        check.within("attempt_timeout", &timeout, range, "1 ms to 10 min");
        check.finish()?;
        let name = || peer.to_owned();
        Ok(Self(Arc::new(Shared {
            peer: peer.into(),
            timeout,
            timeouts: counter!(names::TIMEOUTS, "peer" => name(), "limit" => "attempt"),
            rejected: counter!(names::REJECTED, "peer" => name(), "reason" => "deadline-too-near"),
        })))
    }
}

impl<S> Layer<S> for AttemptTimeoutLayer {
    type Service = AttemptTimeout<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptTimeout { inner, shared: Arc::clone(&self.0) }
    }
}

/// The service of [`AttemptTimeoutLayer`]. It is always ready: the inner service's readiness is awaited inside the
/// attempt, under its timer (tower's `Timeout` does not limit that wait).
#[derive(Debug, Clone)]
pub struct AttemptTimeout<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B> Service<Request<B>> for AttemptTimeout<S>
where
    S: Service<Request<B>> + Clone,
    S::Error: Into<CallError>,
{
    type Response = S::Response;
    type Error = CallError;
    type Future = AttemptTimeoutFuture<Oneshot<S, Request<B>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let began = clock::now();
        let mut until = Deadline::at(began + self.shared.timeout);
        let mut summary = None;
        if let Some(context) = request.extensions_mut().get_mut::<RequestContext>() {
            until = until.earliest(context.deadline);
            // The peer gets the attempt's own deadline, so that it does not work for longer than the attempt
            // waits.
            context.deadline = until;
            summary = Some(RequestSummary::from(&*context));
        }
        let call = Oneshot::new(self.inner.clone(), request);
        let (until, shared) = (until.instant(), Arc::clone(&self.shared));
        AttemptTimeoutFuture(Box::pin(Timed { call, timer: None, began, until, shared, summary }))
    }
}

/// The attempt with its timer. Dropping it drops the attempt. Boxed, because it holds the request, the service and
/// the timer, which every outer layer would otherwise move once more.
#[derive(Debug)]
pub struct AttemptTimeoutFuture<F>(Pin<Box<Timed<F>>>);

pin_project! {
    #[derive(Debug)]
    struct Timed<F> {
        #[pin]
        call: F,
        #[pin]
        timer: Option<Sleep>,
        began: Instant,
        until: Instant,
        shared: Arc<Shared>,
        summary: Option<RequestSummary>,
    }
}

impl<F, R, E> Future for AttemptTimeoutFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: Into<CallError>,
{
    type Output = Result<R, CallError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.0.as_mut().project();
        if this.timer.is_none() && *this.until <= clock::now() {
            // The deadline passed before the first poll, so the attempt does not begin.
            this.shared.rejected.increment(1);
            this.shared.decided(
                "reject",
                "no time left to begin the attempt".to_owned(),
                this.summary.as_ref(),
            );
            return Poll::Ready(Err(CallError::DeadlineTooNear {
                left: Duration::ZERO,
                needed: Duration::ZERO,
            }));
        }
        if let Poll::Ready(result) = this.call.poll(cx) {
            return Poll::Ready(result.map_err(Into::into));
        }
        if this.timer.is_none() {
            this.timer.set(Some(tokio::time::sleep_until(*this.until)));
        }
        let timer = this.timer.as_pin_mut().expect("set just above");
        timer.poll(cx).map(|()| {
            let after = clock::now().saturating_duration_since(*this.began);
            let limit = if after < this.shared.timeout {
                "the time left to the deadline"
            } else {
                "the attempt timeout"
            };
            let why = format!("no reply within {} ms, {limit}", after.as_millis());
            this.shared.timeouts.increment(1);
            this.shared.decided("cut_off", why, this.summary.as_ref());
            Err(CallError::AttemptTimedOut { after })
        })
    }
}
