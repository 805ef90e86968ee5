//! A handler that panics answers 500 `internal` with outcome `unknown`: it may have done its work before it died.
//!
//! Inside the log line, so that the panic is counted and named; outside everything that holds permits and timers,
//! which the unwinding then gives back.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::context::{DeadlinePolicy, whose};
use super::decide;
use super::names;
use crate::context::Party;
use crate::problem::{Effect, Problem};

/// Turns panics of the inner service into problem replies.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use mainstay::server::panic::CatchPanicLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), std::convert::Infallible> {
/// let service = CatchPanicLayer.layer(service_fn(|request: Request<u32>| async move {
///     let share = 100 / request.into_body();
///     Ok::<_, std::convert::Infallible>(Response::new(Bytes::from(share.to_string())))
/// }));
/// let reply = service.oneshot(Request::new(0)).await?;
/// assert_eq!(reply.status(), StatusCode::INTERNAL_SERVER_ERROR);
/// assert_eq!(reply.headers()["x-outcome"], "unknown");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CatchPanic { inner }
    }
}

/// The service of [`CatchPanicLayer`].
#[derive(Debug, Clone)]
pub struct CatchPanic<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for CatchPanic<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let whose = whose(&mut request, &DeadlinePolicy::default());
        // Unwind safety: a service that panicked in `call` is used again only if it is a clone, as every server
        // does; its shared state is this crate's, which is consistent at every point that can unwind.
        let started = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        let (inner, panicked) = match started {
            Ok(future) => (Some(future), None),
            Err(payload) => (None, Some(message_of(&*payload))),
        };
        CatchPanicFuture { inner, panicked, whose }
    }
}

pin_project! {
    /// The future of [`CatchPanic`].
    #[derive(Debug)]
    pub struct CatchPanicFuture<F> {
        // `None` once it has panicked: it is dropped at once, so that what it held is free.
        #[pin]
        inner: Option<F>,
        panicked: Option<String>,
        whose: Party,
    }
}

impl<F, ResBody, E> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ResBody: From<Bytes>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
                Ok(polled) => return polled,
                Err(payload) => *this.panicked = Some(message_of(&*payload)),
            }
            // Dropping a half-unwound future may panic again; the first panic is the one to report.
            drop(catch_unwind(AssertUnwindSafe(|| this.inner.set(None))));
        }
        let message = this.panicked.take().unwrap_or_default();
        Poll::Ready(Ok(answer(this.whose, &message)))
    }
}

fn answer<B: From<Bytes>>(whose: &Party, message: &str) -> Response<B> {
    metrics::counter!(names::PANICS).increment(1);
    tracing::error!(
        target: "mainstay::panic",
        correlation_id = whose.correlation_id.as_str(),
        panic = message,
        "a handler panicked"
    );
    decide::note(whose, "catch_panic", "answer", "the handler panicked".into());
    let mut problem = Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "Something went wrong here",
    )
    .detail("It is not known whether the request was carried out. Repeat it with the same idempotency key.")
    .outcome(Effect::Unknown)
    .correlated(&whose.correlation_id);
    (problem.retryable, problem.same_key) = (true, true);
    problem.into_response()
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
