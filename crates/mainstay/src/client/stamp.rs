//! Writes the headers for the next hop onto each attempt: the time left, the number of the attempt, and the span that
//! sends it.
//!
//! The layer is the innermost one of this crate, because only there the time left for the attempt is known. An
//! attempt without time left (for example because the process was paused on the way here) is not sent. It is counted
//! in `mainstay_client_rejected_total` and recorded on the trail.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::metric::{Counter, counter};
use http::{HeaderValue, Request};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::client_names as names;
use crate::decision::{Decided, Level};
use crate::headers::{TRACEPARENT, TRACESTATE, X_ATTEMPT, X_CORRELATION_ID, X_DEADLINE_MS, X_PRIORITY};
use crate::{CallError, RequestContext, deadline};

#[derive(Debug)]
struct Target {
    peer: Arc<str>,
    rejected: Counter,
}

impl Target {
    #[cold]
    fn refuse(&self, context: &RequestContext) -> CallError {
        self.rejected.increment(1);
        let (left, needed) = (context.deadline.remaining(), Duration::from_millis(1));
        let why = format!("{} us left, less than the 1 ms that X-Deadline-Ms can carry", left.as_micros());
        let (layer, action, peer) = ("stamp", "reject", Some(&*self.peer));
        Decided { layer, action, why, peer, endpoint: None, level: Level::Info }.record(Some(context));
        CallError::DeadlineTooNear { left, needed }
    }
}

/// Layer that writes the headers onto every request with a [`RequestContext`], and replaces earlier values.
///
/// ```
/// use http::Request;
/// use mainstay::client::StampLayer;
/// use mainstay::{CallError, RequestContext};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let transport = service_fn(|request: Request<()>| async move {
///     Ok::<_, CallError>(request.headers()["x-attempt"].clone())
/// });
/// let mut request = Request::new(());
/// request.extensions_mut().insert(RequestContext::background(std::time::Duration::from_secs(1)));
/// assert_eq!(StampLayer::new("inventory").layer(transport).oneshot(request).await?, "1");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StampLayer(Arc<Target>);

impl StampLayer {
    /// A layer for requests to `peer`.
    pub fn new(peer: &str) -> Self {
        let rejected = counter!(names::REJECTED, "peer" => peer.to_owned(), "reason" => "deadline-too-near");
        Self(Arc::new(Target { peer: peer.into(), rejected }))
    }
}

impl<S> Layer<S> for StampLayer {
    type Service = Stamp<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Stamp { inner, shared: Arc::clone(&self.0) }
    }
}

/// The service of [`StampLayer`].
#[derive(Debug, Clone)]
pub struct Stamp<S> {
    inner: S,
    shared: Arc<Target>,
}

impl<S, B> Service<Request<B>> for Stamp<S>
where
    S: Service<Request<B>>,
    S::Error: Into<CallError>,
{
    type Response = S::Response;
    type Error = CallError;
    type Future = StampFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(context) = request.extensions().get::<RequestContext>() {
            let left = u64::try_from(context.deadline.remaining().as_millis()).unwrap_or(u64::MAX);
            if left == 0 {
                let error = Some(self.shared.refuse(context));
                return StampFuture { state: State::Rejected { error } };
            }
            let correlation_id = context.correlation_id.to_header_value();
            let deadline = deadline::header_value(left);
            let attempt = number(context.attempt);
            let priority = HeaderValue::from_static(context.priority.as_str());
            // In the assembled stack this is the attempt's own span.
            let (parent, state) = (context.trace.to_header_value(), context.trace.state.clone());
            let headers = request.headers_mut();
            // Remove another sender's value first, while there are few headers to search.
            headers.remove(TRACESTATE);
            headers.reserve(6);
            headers.insert(X_CORRELATION_ID, correlation_id);
            headers.insert(X_DEADLINE_MS, deadline);
            headers.insert(X_ATTEMPT, attempt);
            headers.insert(X_PRIORITY, priority);
            headers.insert(TRACEPARENT, parent);
            if let Some(state) = state {
                headers.insert(TRACESTATE, state);
            }
        }
        StampFuture { state: State::Sent { call: self.inner.call(request) } }
    }
}

pin_project! {
    /// The request in progress. Dropping it drops the request.
    #[derive(Debug)]
    pub struct StampFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Rejected { error: Option<CallError> },
        Sent {
            #[pin]
            call: F,
        },
    }
}

impl<F, R, E> Future for StampFuture<F>
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
            StateProj::Sent { call } => call.poll(cx).map_err(Into::into),
        }
    }
}

/// The usual attempt numbers need no allocation.
fn number(attempt: u32) -> HeaderValue {
    match attempt {
        1 => HeaderValue::from_static("1"),
        2 => HeaderValue::from_static("2"),
        3 => HeaderValue::from_static("3"),
        more => HeaderValue::from(more),
    }
}
