//! Timeout of a whole call, retries and waits included, and the reserve that this hop keeps for itself.
//!
//! It is the outermost limit of a client stack, and the inner layers work with the deadline that it sets. A retry
//! whose wait cannot fit does not begin, an attempt ends at this deadline, and the remaining time is sent in
//! `X-Deadline-Ms`. A call that is cut off is counted in `mainstay_client_timeouts_total{limit="total"}`. A call that
//! is refused for lack of time is counted in `mainstay_client_rejected_total`. Both are decisions on the trail.
//!
//! ```
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use mainstay::{CallError, RequestContext, total_deadline::TotalDeadlineLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let peer = service_fn(|_: Request<Bytes>| async { Ok::<_, CallError>(Response::new(Bytes::new())) });
//! let layer = TotalDeadlineLayer::new("inventory", Duration::from_secs(2), Duration::from_millis(50));
//! let mut late = Request::new(Bytes::new());
//! late.extensions_mut().insert(RequestContext::background(Duration::from_millis(50)));
//! let refused = layer.layer(peer).oneshot(late).await;
//! assert!(matches!(refused, Err(CallError::DeadlineTooNear { .. })));
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
use tower::{Layer, Service};

use crate::client::names;
use crate::context::RequestSummary;
use crate::decision::{Decided, HasRequestIdentity, Level};
use crate::{CallError, Deadline, RequestContext, clock};

#[derive(Debug)]
struct Shared {
    peer: Arc<str>,
    total: Duration,
    reserve: Duration,
    least: Duration,
    rejected: Counter,
    timeouts: Counter,
}

/// Layer that bounds whole calls.
#[derive(Debug, Clone)]
pub struct TotalDeadlineLayer(Arc<Shared>);

impl TotalDeadlineLayer {
    /// A call to `peer` may take `total`, or its caller's deadline less `reserve` if that is shorter. More than a day
    /// is taken as a day.
    pub fn new(peer: &str, total: Duration, reserve: Duration) -> Self {
        let name = || peer.to_owned();
        let rejected = counter!(names::REJECTED, "peer" => name(), "reason" => "deadline-too-near");
        let timeouts = counter!(names::TIMEOUTS, "peer" => name(), "limit" => "total");
        let (total, least) = (total.min(Duration::from_hours(24)), Duration::from_millis(1));
        Self(Arc::new(Shared { peer: peer.into(), total, reserve, least, rejected, timeouts }))
    }

    /// Refuses a call that has less time than `least` (default 1 ms, the unit of `X-Deadline-Ms`; at most a day).
    #[must_use]
    pub fn least(self, least: Duration) -> Self {
        let Shared { peer, total, reserve, rejected, timeouts, .. } = &*self.0;
        Self(Arc::new(Shared {
            peer: Arc::clone(peer),
            total: *total,
            reserve: *reserve,
            least: least.min(Duration::from_hours(24)),
            rejected: rejected.clone(),
            timeouts: timeouts.clone(),
        }))
    }
}

impl<S> Layer<S> for TotalDeadlineLayer {
    type Service = TotalDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TotalDeadline { inner, shared: Arc::clone(&self.0) }
    }
}

/// The service of [`TotalDeadlineLayer`].
#[derive(Debug, Clone)]
pub struct TotalDeadline<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B> Service<Request<B>> for TotalDeadline<S>
where
    S: Service<Request<B>>,
    S::Error: Into<CallError>,
{
    type Response = S::Response;
    type Error = CallError;
    type Future = TotalDeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let began = clock::now();
        let mut until = Deadline::at(began + self.shared.total);
        let mut summary = None;
        if let Some(context) = request.extensions_mut().get_mut::<RequestContext>() {
            until = until.earliest(context.deadline.less(self.shared.reserve));
            context.deadline = until;
            summary = Some(RequestSummary::from(&*context));
        }
        let until = until.instant().max(began);
        // Compare instants: a subtraction costs more and is needed for a refusal only.
        if until < began + self.shared.least {
            let left = until - began;
            let error = self.shared.refuse(left, request.extensions().get());
            return TotalDeadlineFuture { state: State::Rejected { error: Some(error) } };
        }
        let call = self.inner.call(request);
        let shared = Arc::clone(&self.shared);
        TotalDeadlineFuture { state: State::Running { call, timer: None, began, until, shared, summary } }
    }
}

impl Shared {
    #[cold]
    fn refuse(&self, left: Duration, context: Option<&RequestContext>) -> CallError {
        self.rejected.increment(1);
        let (left_us, reserve) = (left.as_micros(), self.reserve.as_millis());
        let least = self.least.as_micros();
        let why = format!("{left_us} us left after {reserve} ms of reserve, {least} us needed");
        self.decided("reject", why, context);
        CallError::DeadlineTooNear { left, needed: self.least }
    }

    #[cold]
    fn cut_off(&self, after: Duration, summary: Option<&RequestSummary>) -> CallError {
        self.timeouts.increment(1);
        self.decided("cut_off", format!("no reply within {} ms", after.as_millis()), summary);
        CallError::DeadlineExceeded { after }
    }

    fn decided(&self, action: &'static str, why: String, summary: Option<&impl HasRequestIdentity>) {
        let (layer, peer, level) = ("deadline", Some(&*self.peer), Level::Info);
        Decided { layer, action, why, peer, endpoint: None, level }.record(summary);
    }
}

pin_project! {
    /// The call with its timer. Dropping it drops the call.
    #[derive(Debug)]
    pub struct TotalDeadlineFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Rejected { error: Option<CallError> },
        Running {
            #[pin]
            call: F,
            #[pin]
            timer: Option<Sleep>,
            began: Instant,
            until: Instant,
            shared: Arc<Shared>,
            summary: Option<RequestSummary>,
        },
    }
}

impl<F, R, E> Future for TotalDeadlineFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: Into<CallError>,
{
    type Output = Result<R, CallError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Rejected { error } => {
                Poll::Ready(Err(error.take().expect("a future is not polled after it is ready")))
            }
            StateProj::Running { call, mut timer, began, until, shared, summary } => {
                if let Poll::Ready(result) = call.poll(cx) {
                    return Poll::Ready(result.map_err(Into::into));
                }
                if timer.is_none() {
                    timer.set(Some(tokio::time::sleep_until(*until)));
                }
                let timer = timer.as_pin_mut().expect("set just above");
                timer.poll(cx).map(|()| {
                    let after = clock::now().saturating_duration_since(*began);
                    Err(shared.cut_off(after, summary.as_ref()))
                })
            }
        }
    }
}
