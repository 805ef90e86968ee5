//! Shutting down without dropping anybody: new requests are sent elsewhere, those in hand are finished.
//!
//! Inside the log line, so that refusals are seen; outside everything that costs anything.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use pin_project_lite::pin_project;
use tokio::sync::Notify;
use tower::{Layer, Service};

use super::context::{DeadlinePolicy, ensure};
use super::decide;
use crate::problem::{Effect, Problem};

/// How many requests are in hand, for gauges and for [`Drain::drained`].
#[derive(Debug, Default)]
pub(super) struct InFlight {
    count: AtomicUsize,
    none: Notify,
}

impl InFlight {
    pub(super) fn enter(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none.notify_waiters();
        }
    }
}

/// Tells a stack to take no more requests. Clones are one switch.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    draining: Arc<AtomicBool>,
    in_flight: Arc<InFlight>,
}

impl Drain {
    pub(super) fn new(in_flight: Arc<InFlight>) -> Self {
        Self { draining: Arc::default(), in_flight }
    }

    /// From now on new requests get 503 `shutting-down`, `not-executed`, with `Connection: close`. Not undone.
    pub fn start(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether [`Drain::start`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Requests in hand: arrived, and their reply not yet sent to its end.
    pub fn in_flight(&self) -> usize {
        self.in_flight.count.load(Ordering::Acquire)
    }

    /// Waits until no request is in hand. Cancel safe. Bound it by a timeout: a client may read slowly for ever.
    pub async fn drained(&self) {
        loop {
            // Listening before looking: the last request may leave in between.
            let none = self.in_flight.none.notified();
            if self.in_flight() == 0 {
                return;
            }
            none.await;
        }
    }
}

/// Refuses requests once its [`Drain`] has been started.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use mainstay::server::Drain;
/// use mainstay::server::drain::DrainLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), std::convert::Infallible> {
/// let drain = Drain::default();
/// let service = DrainLayer::new(drain.clone())
///     .layer(service_fn(|_: Request<()>| async { Ok::<_, std::convert::Infallible>(Response::new(Bytes::new())) }));
/// assert_eq!(service.clone().oneshot(Request::new(())).await?.status(), StatusCode::OK);
/// drain.start();
/// let refused = service.oneshot(Request::new(())).await?;
/// assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
/// assert_eq!(refused.headers()["x-outcome"], "not-executed");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct DrainLayer {
    drain: Drain,
}

impl DrainLayer {
    /// Obeys `drain`.
    pub fn new(drain: Drain) -> Self {
        Self { drain }
    }
}

impl<S> Layer<S> for DrainLayer {
    type Service = Draining<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Draining { inner, drain: self.drain.clone() }
    }
}

/// The service of [`DrainLayer`].
#[derive(Debug, Clone)]
pub struct Draining<S> {
    inner: S,
    drain: Drain,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Draining<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OrRefused<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        if !self.drain.is_draining() {
            return OrRefused::inner(self.inner.call(request));
        }
        let context = ensure(&mut request, &DeadlinePolicy::default(), None);
        decide::shed(&context, "drain", "draining", "the service is shutting down".into());
        let mut response =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "shutting-down", "The service is shutting down")
                .outcome(Effect::NotExecuted)
                .retry_after(1)
                .correlated(&context.correlation_id)
                .into_response();
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        OrRefused::refused(response)
    }
}

pin_project! {
    /// Either the inner service's future, or a refusal that is ready.
    #[derive(Debug)]
    pub struct OrRefused<F, B> {
        #[pin]
        kind: Kind<F, B>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<F, B> {
        Inner { #[pin] inner: F },
        Refused { response: Option<Response<B>> },
    }
}

impl<F, B> OrRefused<F, B> {
    pub(super) fn inner(inner: F) -> Self {
        Self { kind: Kind::Inner { inner } }
    }

    pub(super) fn refused(response: Response<B>) -> Self {
        Self { kind: Kind::Refused { response: Some(response) } }
    }
}

impl<F, B, E> Future for OrRefused<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().kind.project() {
            KindProj::Inner { inner } => ready!(inner.poll(cx)),
            KindProj::Refused { response } => {
                Ok(response.take().expect("a refusal is not polled again after it was ready"))
            }
        })
    }
}
