//! Writes onto each attempt what the next hop needs: what time remains, which attempt this is, and whose span asks.
//!
//! Innermost of ours, since only here is known how long this attempt may really take.

use std::task::{Context, Poll};

use http::{HeaderValue, Request};
use tower::{Layer, Service};

use crate::RequestContext;
use crate::headers::{X_ATTEMPT, X_CORRELATION_ID, X_DEADLINE_MS, X_PRIORITY};

/// Stamps every request that carries a [`RequestContext`], replacing headers of the same names.
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(context) = request.extensions_mut().remove::<RequestContext>() {
            let headers = request.headers_mut();
            headers.insert(X_CORRELATION_ID, context.correlation_id.to_header_value());
            headers.insert(X_DEADLINE_MS, context.deadline.to_header_value());
            headers.insert(X_ATTEMPT, HeaderValue::from(context.attempt));
            headers.insert(X_PRIORITY, HeaderValue::from_static(context.priority.as_str()));
            // In the assembled stack this is the attempt's own span.
            context.trace.write_to(headers);
            request.extensions_mut().insert(context);
        }
        self.0.call(request)
    }
}
