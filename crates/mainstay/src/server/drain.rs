//! Graceful shutdown: new requests are refused, and requests in flight are finished.
//!
//! The layer is inside the log line, so that refusals are logged, and outside every layer that costs anything.

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
use crate::HeldBody;
use crate::problem::{Effect, Problem};

/// Counter of requests in flight. Count and switch are sequentially consistent: a request increments the count and
/// then reads the switch, and a drain sets the switch and then reads the count, so at least one of them sees the
/// other.
#[derive(Debug, Default)]
struct InFlight {
    count: AtomicUsize,
    none: Notify,
}

impl InFlight {
    fn enter(self: &Arc<Self>) -> InFlightRequest {
        self.count.fetch_add(1, Ordering::SeqCst);
        InFlightRequest(Arc::clone(self))
    }
}

/// One request in flight, until this is dropped.
#[derive(Debug)]
pub struct InFlightRequest(Arc<InFlight>);

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

/// Switch that makes a [`DrainLayer`], or the stack that contains one, refuse new requests. Clones are one switch.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    draining: Arc<AtomicBool>,
    in_flight: Arc<InFlight>,
}

impl Drain {
    /// Refuses every new request from now on with 503 `shutting-down`, `not-executed`, and `Connection: close`. It
    /// cannot be undone.
    pub fn start(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether [`Drain::start`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Requests in flight: admitted, and their reply's body has neither ended nor been dropped.
    pub fn in_flight(&self) -> usize {
        self.in_flight.count.load(Ordering::SeqCst)
    }

    /// Waits until no request is in flight. Cancel safe. Give it a timeout: a client may read slowly for ever.
    pub async fn drained(&self) {
        loop {
            // Subscribe before reading the count: the last request may end in between.
            let none = self.in_flight.none.notified();
            if self.in_flight() == 0 {
                return;
            }
            none.await;
        }
    }
}

/// Layer that counts requests in flight, and refuses new requests once its [`Drain`] has started.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::Full;
/// use mainstay::server::Drain;
/// use mainstay::server::drain::DrainLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), std::convert::Infallible> {
/// let drain = Drain::default();
/// let service = DrainLayer::new(drain.clone())
///     .layer(service_fn(|_: Request<()>| async {
///         Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from("hello"))))
///     }));
/// let reply = service.clone().oneshot(Request::new(())).await?;
/// drain.start();
/// assert_eq!((reply.status(), drain.in_flight()), (StatusCode::OK, 1));
/// drop(reply);
/// drain.drained().await;
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
    /// A layer that follows `drain`.
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
    type Response = Response<DrainedBody<ResBody>>;
    type Error = S::Error;
    type Future = OrRefused<DrainFuture<S::Future>, DrainedBody<ResBody>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        // Increment before reading the switch, so that a drain cannot miss the request.
        let in_flight = self.drain.in_flight.enter();
        if !self.drain.is_draining() {
            return OrRefused::inner(DrainFuture {
                inner: self.inner.call(request),
                in_flight: Some(in_flight),
            });
        }
        drop(in_flight);
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
    /// The future of [`Draining`]. Dropping it drops the request, which is then no longer in flight.
    #[derive(Debug)]
    pub struct DrainFuture<F> {
        // Declared before `in_flight`, so that it is dropped first: the request is in flight until its future is
        // dropped.
        #[pin]
        inner: F,
        in_flight: Option<InFlightRequest>,
    }
}

impl<F, ResBody, E> Future for DrainFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = Result<Response<DrainedBody<ResBody>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let reply = ready!(this.inner.poll(cx));
        let in_flight = this.in_flight.take();
        Poll::Ready(reply.map(|reply| reply.map(|body| HeldBody::new(body, in_flight))))
    }
}

/// A reply's body whose request is in flight until the body ends or is dropped.
pub type DrainedBody<B> = HeldBody<B, InFlightRequest>;

pin_project! {
    /// The inner service's future, or a finished refusal.
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
