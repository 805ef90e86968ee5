//! Turns a handler's panic into 500 `internal` with outcome `unknown`: the handler may have had its effect before it
//! panicked.
//!
//! The layer is inside the log line, so that the panic is counted and named. It is outside every layer that holds
//! permits and timers, so that unwinding returns them.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::context::{DeadlinePolicy, summary_of};
use super::decide;
use super::names;
use crate::context::RequestSummary;
use crate::problem::{Effect, Problem};

/// Layer that turns panics of the inner service into problem replies.
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
        let summary = summary_of(&mut request, &DeadlinePolicy::default());
        // Unwind safety: after a panic in `call`, a server uses only another clone of the service. The shared state
        // belongs to this crate and is consistent at every point that can unwind.
        let started = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        let (inner, panicked) = match started {
            Ok(future) => (Some(future), None),
            Err(payload) => (None, Some(message_of(&*payload))),
        };
        CatchPanicFuture { inner, panicked, summary }
    }
}

pin_project! {
    /// The future of [`CatchPanic`].
    #[derive(Debug)]
    pub struct CatchPanicFuture<F> {
        // `None` after a panic: the future is dropped at once, so that its permits and timers are returned.
        #[pin]
        inner: Option<F>,
        panicked: Option<String>,
        summary: RequestSummary,
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
            // Dropping a half-unwound future may panic again; only the first panic is reported.
            drop(catch_unwind(AssertUnwindSafe(|| this.inner.set(None))));
        }
        let message = this.panicked.take().unwrap_or_default();
        Poll::Ready(Ok(answer(this.summary, &message)))
    }
}

fn answer<B: From<Bytes>>(summary: &RequestSummary, message: &str) -> Response<B> {
    crate::metric::counter!(names::PANICS).increment(1);
    tracing::error!(
        target: "mainstay::panic",
        correlation_id = summary.correlation_id.as_str(),
        panic = message,
        "request handler panicked"
    );
    decide::note(summary, "catch_panic", "answer", "the handler panicked".into());
    let mut problem = Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "The server failed while handling the request",
    )
    .detail("It is not known whether the request was carried out. Repeat it with the same idempotency key.")
    .outcome(Effect::Unknown)
    .correlated(&summary.correlation_id);
    (problem.retryable, problem.same_key) = (true, true);
    problem.into_response()
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
