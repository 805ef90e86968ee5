//! Enforces deadlines: work whose deadline has passed is refused before it starts, and work that overruns its
//! deadline is cut off.
//!
//! The layer is outside the rate limit and the queue, so that expired requests use neither quota nor queue. A handler
//! should watch its own deadline and answer in time (for example with 202). The backstop fires a grace period after
//! the deadline and answers `unknown`, because only the handler could know the outcome. The handler is polled before
//! the timer, so that a finished reply is not lost.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower::{Layer, Service};

use super::context::{DeadlinePolicy, summary_of};
use super::decide;
use super::drain::OrRefused;
use super::names;
use crate::context::RequestSummary;
use crate::problem::{Effect, Problem};

/// Layer that enforces the deadline in the request's context.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use mainstay::server::deadline::DeadlineLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = DeadlineLayer::default()
///     .layer(service_fn(|_: Request<()>| std::future::pending::<Result<Response<Bytes>, std::io::Error>>()));
/// let late = Request::builder().header("x-deadline-ms", "250").body(())?;
/// let reply = service.clone().oneshot(late).await?;
/// assert_eq!((reply.status(), &reply.headers()["x-outcome"]), (StatusCode::GATEWAY_TIMEOUT, &"unknown".parse()?));
/// let dead = Request::builder().header("x-deadline-ms", "0").body(())?;
/// assert_eq!(service.oneshot(dead).await?.headers()["x-outcome"], "not-executed");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer {
    policy: DeadlinePolicy,
    grace: Duration,
}

impl DeadlineLayer {
    /// Time after its deadline that a handler has for sending its answer. 50 ms is one scheduling delay on a busy
    /// two-core machine, and short compared with the default deadline of 2 s.
    pub const GRACE: Duration = Duration::from_millis(50);

    /// A layer whose backstop fires `grace` after the deadline. `policy` is used only when no context layer is
    /// outside.
    pub fn new(policy: DeadlinePolicy, grace: Duration) -> Self {
        Self { policy, grace }
    }
}

impl Default for DeadlineLayer {
    fn default() -> Self {
        Self::new(DeadlinePolicy::default(), Self::GRACE)
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = EnforceDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        EnforceDeadline { inner, layer: *self }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Debug, Clone)]
pub struct EnforceDeadline<S> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for EnforceDeadline<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OrRefused<DeadlineFuture<S::Future>, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let summary = summary_of(&mut request, &self.layer.policy);
        if summary.deadline.has_passed() {
            return OrRefused::refused(expired(&summary, "deadline", "the deadline had passed on arrival"));
        }
        let backstop = sleep_until(summary.deadline.instant() + self.layer.grace);
        let inner = self.inner.call(request);
        OrRefused::inner(DeadlineFuture { inner, backstop, summary, grace: self.layer.grace })
    }
}

/// The refusal of work whose deadline passed before it started.
pub(super) fn expired<B: From<Bytes>>(
    summary: &RequestSummary,
    reason: &'static str,
    why: &'static str,
) -> Response<B> {
    decide::shed(summary, "deadline", reason, why.into());
    let mut problem = Problem::new(
        StatusCode::GATEWAY_TIMEOUT,
        "deadline-exceeded",
        "The deadline passed before the request started",
    )
    .outcome(Effect::NotExecuted)
    .correlated(&summary.correlation_id);
    (problem.retryable, problem.same_key) = (true, true);
    problem.into_response()
}

pin_project! {
    /// Polls the handler, then the backstop.
    #[derive(Debug)]
    pub struct DeadlineFuture<F> {
        #[pin]
        inner: F,
        #[pin]
        backstop: Sleep,
        summary: RequestSummary,
        grace: Duration,
    }
}

impl<F, ResBody, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ResBody: From<Bytes>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(reply) = this.inner.poll(cx) {
            return Poll::Ready(reply);
        }
        if this.backstop.poll(cx).is_pending() {
            return Poll::Pending;
        }
        crate::metric::counter!(names::OVERRUN).increment(1);
        let why = format!("no answer {} ms after the deadline", this.grace.as_millis());
        decide::note(this.summary, "deadline", "cut_off", why.into());
        let mut problem = Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "deadline-exceeded",
            "The deadline passed before the answer was ready",
        )
        .detail(
            "It is not known whether the request was carried out. Repeat it with the same idempotency key.",
        )
        .outcome(Effect::Unknown)
        .correlated(&this.summary.correlation_id);
        (problem.retryable, problem.same_key) = (true, true);
        Poll::Ready(Ok(problem.into_response()))
    }
}
