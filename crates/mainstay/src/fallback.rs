//! A substitute for a read without an answer: yesterday's price list, an empty recommendation. Put it outside the
//! stack. Each substitute is counted, recorded on the decision trail, and marked on the reply by [`Substituted`].
//!
//! Only safe methods get a substitute. It must not hide the failure of a write, which may have had its effect.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use mainstay::fallback::{FallbackLayer, Substituted};
//! use mainstay::{CallError, Outcome};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let down = service_fn(|_: Request<Bytes>| async {
//!     Ok::<_, CallError>(Response::builder().status(503).body(Bytes::new()).unwrap())
//! });
//! let client = FallbackLayer::new("prices", |_| Some(Response::new(Bytes::from("yesterday's")))).layer(down);
//! let reply = client.oneshot(Request::get("http://127.0.0.1/prices").body(Bytes::new())?).await?;
//! assert_eq!(reply.body(), "yesterday's");
//! assert_eq!(reply.extensions().get(), Some(&Substituted(Outcome::Unknown)));
//! # Ok(())
//! # }
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::metric::counter;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::classify::outcome;
use crate::client_names as names;
use crate::context::RequestSummary;
use crate::decision::{Decided, Level};
use crate::{CallError, Outcome, RequestContext};

/// Reply extension that marks a substitute: no peer answered, and the call ended with this outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Substituted(pub Outcome);

/// Layer that substitutes the reply that `F` makes from the outcome. `None` from `F` returns the failure.
#[derive(Debug, Clone)]
pub struct FallbackLayer<F>(Arc<str>, F);

impl<F> FallbackLayer<F> {
    /// A layer for reads from `peer` that ended in neither success, refusal nor client fault.
    pub fn new<R>(peer: &str, substitute: F) -> Self
    where
        F: Fn(Outcome) -> Option<Response<R>> + Clone,
    {
        for outcome in Outcome::ALL.into_iter().filter(|outcome| is_replaced(*outcome)) {
            counter!(names::FALLBACKS, "peer" => peer.to_owned(), "outcome" => outcome.as_str()).increment(0);
        }
        Self(peer.into(), substitute)
    }
}

/// Whether a call with this outcome got no answer, so that a substitute may take its place.
fn is_replaced(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Success | Outcome::Refused | Outcome::ClientFault)
}

impl<S, F: Clone> Layer<S> for FallbackLayer<F> {
    type Service = Fallback<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Fallback { inner, layer: self.clone() }
    }
}

/// The service of [`FallbackLayer`].
#[derive(Debug, Clone)]
pub struct Fallback<S, F> {
    inner: S,
    layer: FallbackLayer<F>,
}

impl<S, F, B, R> Service<Request<B>> for Fallback<S, F>
where
    S: Service<Request<B>, Response = Response<R>, Error = CallError>,
    F: Fn(Outcome) -> Option<Response<R>> + Clone,
{
    type Response = Response<R>;
    type Error = CallError;
    type Future = FallbackFuture<S::Future, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let summary = || request.extensions().get::<RequestContext>().map(RequestSummary::from);
        let read = request.method().is_safe().then(|| (self.layer.clone(), summary()));
        FallbackFuture { call: self.inner.call(request), read }
    }
}

pin_project! {
    /// The call. Dropping it drops the call.
    #[derive(Debug)]
    pub struct FallbackFuture<C, F> {
        #[pin]
        call: C,
        read: Option<(FallbackLayer<F>, Option<RequestSummary>)>,
    }
}

impl<C, F, R> Future for FallbackFuture<C, F>
where
    C: Future<Output = Result<Response<R>, CallError>>,
    F: Fn(Outcome) -> Option<Response<R>>,
{
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.call.poll(cx));
        let became = outcome(&result);
        let Some((FallbackLayer(peer, substitute), summary)) =
            this.read.as_ref().filter(|_| is_replaced(became))
        else {
            return Poll::Ready(result);
        };
        let Some(mut reply) = substitute(became) else { return Poll::Ready(result) };
        counter!(names::FALLBACKS, "peer" => peer.to_string(), "outcome" => became.as_str()).increment(1);
        let (peer, why) = (Some(&**peer), format!("the call ended as {became}"));
        let (layer, action, level) = ("fallback", "substitute", Level::Info);
        Decided { layer, action, why, peer, endpoint: None, level }.record(summary.as_ref());
        reply.extensions_mut().insert(Substituted(became));
        Poll::Ready(Ok(reply))
    }
}
