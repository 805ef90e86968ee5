//! The most that one attempt may take: waiting for the transport to be ready, connecting, sending, and (with a transport
//! that buffers, as [`HyperTransport`](crate::client::HyperTransport) does) the last byte of the reply's body.
//!
//! * The call is polled before the timer, so a reply that is there is never thrown away.
//! * A timeout is an error, so that a breaker outside sees it. (As `Ok(504)` it would pass for an answer.)
//! * The timer exists only once the call has had to wait.
//! * An attempt that is cut off is counted in `mainstay_client_timeouts_total{limit="attempt"}`, and one that has no time
//!   left to begin in `mainstay_client_rejected_total`; both are decisions on the trail.
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
use crate::context::Party;
use crate::decision::{Decided, Loudness};
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
    fn decided(&self, action: &'static str, why: String, whose: Option<&Party>) {
        let (layer, peer, loudness) = ("attempt_timeout", Some(&*self.peer), Loudness::Info);
        Decided { layer, action, why, peer, endpoint: None, loudness }.record(whose);
    }
}

/// Ends an attempt after its time.
#[derive(Debug, Clone)]
pub struct AttemptTimeoutLayer(Arc<Shared>);

impl AttemptTimeoutLayer {
    /// Each attempt at `peer` may take `timeout` (1 ms to 10 min), or what the request's deadline leaves if that is less.
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

/// See [`AttemptTimeoutLayer`]. Always ready: the inner service's readiness is awaited inside the attempt, under its
/// timer (tower's `Timeout` leaves it unbounded).
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
        let mut whose = None;
        if let Some(context) = request.extensions_mut().get_mut::<RequestContext>() {
            until = until.earliest(context.deadline);
            // What goes out is the attempt's own time: the peer need not work for longer than it is listened to.
            context.deadline = until;
            whose = Some(Party::from(&*context));
        }
        let call = Oneshot::new(self.inner.clone(), request);
        let (until, shared) = (until.instant(), Arc::clone(&self.shared));
        AttemptTimeoutFuture(Box::pin(Timed { call, timer: None, began, until, shared, whose }))
    }
}

/// The attempt with its timer. Dropping it drops the attempt. Boxed, since it holds the request, the service and the
/// timer: every layer outside would move them once more.
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
        whose: Option<Party>,
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
            // The first poll, and the deadline has passed: the attempt is not begun.
            this.shared.rejected.increment(1);
            this.shared.decided("reject", "no time is left to begin".to_owned(), this.whose.as_ref());
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
            let limit =
                if after < this.shared.timeout { "what the deadline left" } else { "an attempt's time" };
            let why = format!("no reply within {} ms, {limit}", after.as_millis());
            this.shared.timeouts.increment(1);
            this.shared.decided("cut_off", why, this.whose.as_ref());
            Err(CallError::AttemptTimedOut { after })
        })
    }
}
