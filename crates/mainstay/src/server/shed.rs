//! The innermost layer: a limit of requests in flight, a bounded queue in front of it, and a cheap refusal for the
//! rest.
//!
//! The layer is next to the handler, so that a permit is held only while there is work. The permit is taken inside
//! `call` and not in `poll_ready`: a clone of the service that is ready but idle holds no permit. The permit is
//! returned when the reply's body ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::context::{DeadlinePolicy, summary_of};
use super::deadline::expired;
use super::decide;
use super::log_fields::LogFields;
use super::names;
use crate::HeldBody;
use crate::context::RequestSummary;
use crate::limit::{Acquire, Admission, Limiter, Permit, Refusal, Verdict};
use crate::problem::{Effect, Problem};

/// Seconds after which a shed client may come back: the smallest `Retry-After` above zero. A standing queue has been
/// full for a tenth of that time.
const RETRY_AFTER_SECS: u64 = 1;

/// Layer that admits requests through a shared [`Limiter`].
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::Full;
/// use mainstay::limit::{Fixed, Limiter, QueueConfig};
/// use mainstay::server::shed::ShedLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), std::convert::Infallible> {
/// let limiter = Limiter::new(Fixed::new(1), QueueConfig::default().capacity(Some(0)));
/// let service = ShedLayer::new(limiter).layer(service_fn(|_: Request<()>| async {
///     Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from("hello"))))
/// }));
/// let first = service.clone().oneshot(Request::new(())).await?;
/// let second = service.clone().oneshot(Request::new(())).await?;
/// assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE, "the first one's body is still unread");
/// drop(first);
/// assert_eq!(service.oneshot(Request::new(())).await?.status(), StatusCode::OK);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ShedLayer {
    limiter: Arc<Limiter>,
}

impl ShedLayer {
    /// A layer that shares one limit with every other layer of the same limiter, and with all their services.
    pub fn new(limiter: Arc<Limiter>) -> Self {
        Self { limiter }
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Shed { inner, limiter: Arc::clone(&self.limiter) }
    }
}

/// The service of [`ShedLayer`].
#[derive(Debug, Clone)]
pub struct Shed<S> {
    inner: S,
    limiter: Arc<Limiter>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Shed<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    ResBody: From<Bytes>,
{
    type Response = Response<PermitBody<ResBody>>;
    type Error = S::Error;
    type Future = ShedFuture<S, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let summary = summary_of(&mut request, &DeadlinePolicy::default());
        let stage = match self.limiter.admit(summary.priority, summary.deadline) {
            Admission::Admitted(permit) => {
                Stage::Running { inner: self.inner.call(request), permit: Some(permit) }
            }
            Admission::Queued(acquire) => {
                // The ready service serves this request; its clone becomes ready by the next `poll_ready`.
                let clone = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, clone);
                Stage::Queued { acquire, since: Instant::now(), waiting: Some((service, request)) }
            }
            Admission::Refused(refusal) => Stage::Refused { refusal },
        };
        ShedFuture { stage, summary }
    }
}

pin_project! {
    /// The future of [`Shed`]. If it is dropped while it waits, it leaves the queue; while it runs, it returns its
    /// permit.
    pub struct ShedFuture<S, ReqBody> where S: Service<Request<ReqBody>> {
        #[pin]
        stage: Stage<S, S::Future, ReqBody>,
        summary: RequestSummary,
    }

    impl<S: Service<Request<ReqBody>>, ReqBody> PinnedDrop for ShedFuture<S, ReqBody> {
        fn drop(this: Pin<&mut Self>) {
            // A caller that left shows nothing of load. Work cut off after its deadline may have been too slow.
            let this = this.project();
            match this.stage.project() {
                StageProj::Running { permit: Some(permit), .. } if this.summary.deadline.has_passed() => {
                    permit.cut_off();
                }
                StageProj::Queued { since, waiting: Some((_, request)), .. } => {
                    waited(*since, request.extensions());
                }
                _ => {}
            }
        }
    }
}

impl<S: Service<Request<ReqBody>>, ReqBody> std::fmt::Debug for ShedFuture<S, ReqBody> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShedFuture").field("summary", &self.summary).finish_non_exhaustive()
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<S, F, ReqBody> {
        Queued { #[pin] acquire: Acquire, since: Instant, waiting: Option<(S, Request<ReqBody>)> },
        // The handler's future is dropped before its permit is returned: until then there is no room.
        Running { #[pin] inner: F, permit: Option<Permit> },
        Refused { refusal: Refusal },
    }
}

impl<S, ReqBody, ResBody> Future for ShedFuture<S, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Output = Result<Response<PermitBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.stage.as_mut().project() {
                StageProj::Queued { acquire, since, waiting } => {
                    let outcome = ready!(acquire.poll(cx));
                    let (mut service, request) =
                        waiting.take().expect("taken only when the queue has answered");
                    let waited = waited(*since, request.extensions());
                    match outcome {
                        Ok(permit) => {
                            let why = format!("admitted after {} ms in the queue", waited.as_millis());
                            decide::note(this.summary, "load_shed", "admit", why.into());
                            Stage::Running { inner: service.call(request), permit: Some(permit) }
                        }
                        Err(refusal) => Stage::Refused { refusal },
                    }
                }
                StageProj::Running { inner, permit } => {
                    let reply = ready!(inner.poll(cx));
                    let permit = permit.take().expect("a ShedFuture is not polled again after it was ready");
                    match &reply {
                        // A 504: the handler ran out of time here, or the caller had little time to begin with.
                        Ok(response) if response.status() == StatusCode::GATEWAY_TIMEOUT => permit.cut_off(),
                        Ok(response) => permit.observe(verdict_of(response.status())),
                        Err(_) => permit.observe(Verdict::Dropped),
                    }
                    return Poll::Ready(reply.map(|r| r.map(|body| HeldBody::new(body, Some(permit)))));
                }
                StageProj::Refused { refusal } => return Poll::Ready(Ok(refuse(this.summary, *refusal))),
            };
            this.stage.set(next);
        }
    }
}

/// Records how long a request waited in the queue, whatever the result.
fn waited(since: Instant, extensions: &Extensions) -> Duration {
    let waited = since.elapsed();
    crate::metric::histogram!(names::QUEUE).record(waited.as_secs_f64());
    if let Some(fields) = extensions.get::<LogFields>() {
        fields.queued(waited);
    }
    waited
}

/// Reads the reply's status. A handler that answers "no room" lacked some resource behind it, and the limit should
/// learn of it.
fn verdict_of(status: StatusCode) -> Verdict {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => Verdict::Dropped,
        _ => Verdict::Answered,
    }
}

fn refuse<B: From<Bytes>>(summary: &RequestSummary, refusal: Refusal) -> Response<B> {
    if refusal == Refusal::Expired {
        return expired(summary, refusal.as_str(), refusal.why());
    }
    decide::shed(summary, "load_shed", refusal.as_str(), refusal.why().into());
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "There is no room for this request now")
        .outcome(Effect::NotExecuted)
        .retry_after(RETRY_AFTER_SECS)
        .correlated(&summary.correlation_id)
        .into_response()
}

/// A reply's body that holds its request's permit until it ends or is dropped.
pub type PermitBody<B> = HeldBody<B, Permit>;
