//! Writes onto each attempt what the next hop needs: what time remains, which attempt this is, and whose span asks.
//!
//! Innermost of ours, since only here is known how long this attempt may really take.

use std::task::{Context, Poll};

use http::{HeaderValue, Request};
use tower::{Layer, Service};

use crate::RequestContext;
use crate::headers::{TRACEPARENT, TRACESTATE, X_ATTEMPT, X_CORRELATION_ID, X_DEADLINE_MS, X_PRIORITY};

/// Stamps every request that carries a [`RequestContext`], replacing headers of the same names.
///
/// ```
/// use http::Request;
/// use mainstay::RequestContext;
/// use mainstay::client::StampLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let transport = service_fn(|request: Request<()>| async move {
///     Ok::<_, std::convert::Infallible>(request.headers()["x-attempt"].clone())
/// });
/// let mut request = Request::new(());
/// request.extensions_mut().insert(RequestContext::background(std::time::Duration::from_secs(1)));
/// assert_eq!(StampLayer.layer(transport).oneshot(request).await?, "1");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct StampLayer;

impl<S> Layer<S> for StampLayer {
    type Service = Stamp<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Stamp(inner)
    }
}

/// See [`StampLayer`].
#[derive(Debug, Clone)]
pub struct Stamp<S>(S);

impl<S, B> Service<Request<B>> for Stamp<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(context) = request.extensions().get::<RequestContext>() {
            let correlation_id = context.correlation_id.to_header_value();
            let deadline = context.deadline.to_header_value();
            let attempt = number(context.attempt);
            let priority = HeaderValue::from_static(context.priority.as_str());
            // In the assembled stack this is the attempt's own span.
            let (parent, state) = (context.trace.to_header_value(), context.trace.state.clone());
            let headers = request.headers_mut();
            // Somebody else's, before ours are there to be searched.
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
        self.0.call(request)
    }
}

/// The usual attempts need no allocation.
fn number(attempt: u32) -> HeaderValue {
    match attempt {
        1 => HeaderValue::from_static("1"),
        2 => HeaderValue::from_static("2"),
        3 => HeaderValue::from_static("3"),
        more => HeaderValue::from(more),
    }
}
