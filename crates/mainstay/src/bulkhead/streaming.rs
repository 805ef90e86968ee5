//! The bulkhead for transports that return a reply's head before its body has ended. The permit is held until the
//! body ends or is dropped, because a limit that ends with the head does not limit streaming bodies.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{BulkheadLayer, BulkheadPermit};
use crate::{CallError, Gate, HeldBody};

/// Layer that limits the calls in flight, bodies included. It shares its limit with the [`BulkheadLayer`] it was made
/// from.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use mainstay::{CallError, bulkhead::BulkheadLayer};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let peer = service_fn(|_: Request<()>| async { Ok::<_, CallError>(Response::new(Full::new(Bytes::new()))) });
/// let bulkhead = BulkheadLayer::new("inventory", 1)?;
/// let client = bulkhead.streaming().layer(peer);
/// let reply = client.clone().oneshot(Request::new(())).await?;
/// let refused = client.oneshot(Request::new(())).await;
/// assert!(matches!(refused, Err(CallError::BulkheadFull { .. })), "the first one's body is still unread");
/// drop(reply);
/// assert_eq!(bulkhead.in_flight(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StreamingBulkheadLayer(pub(super) BulkheadLayer);

impl<S> Layer<S> for StreamingBulkheadLayer {
    type Service = StreamingBulkhead<S>;

    fn layer(&self, inner: S) -> Self::Service {
        StreamingBulkhead { inner, layer: self.0.clone() }
    }
}

/// The service of [`StreamingBulkheadLayer`].
#[derive(Debug, Clone)]
pub struct StreamingBulkhead<S> {
    inner: S,
    layer: BulkheadLayer,
}

impl<S, B, R> Service<Request<B>> for StreamingBulkhead<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<CallError>,
{
    type Response = Response<HeldBody<R, BulkheadPermit>>;
    type Error = CallError;
    type Future = StreamingBulkheadFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.layer.enter(&request) {
            Ok(permit) => Gate::open(Streaming { call: self.inner.call(request), permit: Some(permit) }),
            Err(error) => Gate::refused(error),
        }
    }
}

/// The future of [`StreamingBulkhead`]: a call with its permit, or its refusal.
pub type StreamingBulkheadFuture<F> = Gate<Streaming<F>, CallError>;

pin_project! {
    /// A call with its permit. Dropping it returns the permit.
    #[derive(Debug)]
    pub struct Streaming<F> {
        #[pin]
        call: F,
        permit: Option<BulkheadPermit>,
    }
}

impl<F, R, E> Future for Streaming<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<CallError>,
{
    type Output = Result<Response<HeldBody<R, BulkheadPermit>>, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let reply = ready!(this.call.poll(cx)).map_err(Into::into)?;
        Poll::Ready(Ok(reply.map(|body| HeldBody::new(body, this.permit.take()))))
    }
}
