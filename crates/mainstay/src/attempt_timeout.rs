//! The most that one attempt may take: waiting for the transport to be ready, connecting, sending, and (with a transport
//! that buffers, as [`HyperTransport`](crate::client::HyperTransport) does) the last byte of the reply's body.
//!
//! * The call is polled before the timer, so a reply that is there is never thrown away.
//! * A timeout is an error, so that a breaker outside sees it. (As `Ok(504)` it would pass for an answer.)
//! * The timer exists only once the call has had to wait.
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
//! let client = AttemptTimeoutLayer::new(Duration::from_millis(5))?.layer(silent);
//! let error = client.oneshot(Request::new(Bytes::new())).await.unwrap_err();
//! assert!(matches!(error, CallError::AttemptTimedOut { .. }));
//! # Ok(())
//! # }
//! ```

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower::util::Oneshot;
use tower::{Layer, Service};

use crate::config_error::{Check, ConfigError};
use crate::{CallError, Deadline, RequestContext, clock};

/// Ends an attempt after its time.
#[derive(Debug, Clone, Copy)]
pub struct AttemptTimeoutLayer(Duration);

impl AttemptTimeoutLayer {
    /// Each attempt may take `timeout` (1 ms to 10 min), or what the request's deadline leaves if that is less.
    pub fn new(timeout: Duration) -> Result<Self, ConfigError> {
        let range = Duration::from_millis(1)..=Duration::from_mins(10);
        let mut check = Check::default();
        check.within("attempt_timeout", &timeout, range, "1 ms to 10 min");
        check.finish()?;
        Ok(Self(timeout))
    }
}

impl<S> Layer<S> for AttemptTimeoutLayer {
    type Service = AttemptTimeout<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptTimeout { inner, timeout: self.0 }
    }
}

/// See [`AttemptTimeoutLayer`]. Always ready: the inner service's readiness is awaited inside the attempt, under its
/// timer (tower's `Timeout` leaves it unbounded).
#[derive(Debug, Clone)]
pub struct AttemptTimeout<S> {
    inner: S,
    timeout: Duration,
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
        let mut until = Deadline::at(began + self.timeout);
        if let Some(context) = request.extensions_mut().get_mut::<RequestContext>() {
            until = until.earliest(context.deadline);
            // What goes out is the attempt's own time: the peer need not work for longer than it is listened to.
            context.deadline = until;
        }
        let call = Oneshot::new(self.inner.clone(), request);
        AttemptTimeoutFuture(Box::pin(Timed { call, timer: None, began, until: until.instant() }))
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
        if *this.until <= *this.began {
            // The deadline had passed before the attempt began: it is not begun.
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
            Err(CallError::AttemptTimedOut { after: clock::now().saturating_duration_since(*this.began) })
        })
    }
}
