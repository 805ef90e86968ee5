//! Limit on the length of request bodies. A body announced as too large is refused before it enters the queue and
//! before it is sent: a client that waits for `100 Continue` does not send it.
//!
//! A body of unannounced length is cut off while it is read: at the limit the reader gets
//! [`http_body_util::LengthLimitError`], which axum's extractors turn into a 413. Each cut is counted in
//! `mainstay_server_body_cut_off_total` and is a decision of its own, since the handler has already started.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{LengthLimitError, Limited};
use pin_project_lite::pin_project;
use tower::{BoxError, Layer, Service};

use super::context::{DeadlinePolicy, summary_of};
use super::drain::OrRefused;
use super::{decide, names};
use crate::context::RequestSummary;
use crate::problem::{Effect, Problem};

/// Layer that refuses bodies announced as longer than the limit, and cuts off others at the limit. Without a limit it
/// passes everything on.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::{BodyExt, Full};
/// use mainstay::server::body_limit::{BodyLimitLayer, LimitedBody};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = BodyLimitLayer::new(Some(4)).layer(service_fn(|request: Request<LimitedBody<Full<Bytes>>>| async {
///     let read = request.into_body().collect().await.map(|body| body.to_bytes());
///     Ok::<_, std::convert::Infallible>(Response::new(read.unwrap_or(Bytes::from_static(b"cut off"))))
/// }));
/// let silent = Request::post("/").body(Full::from("fives"))?;
/// assert_eq!(service.clone().oneshot(silent).await?.into_body(), "cut off");
///
/// let announced = Request::post("/").header("content-length", 5).body(Full::from("fives"))?;
/// let reply = service.oneshot(announced).await?;
/// assert_eq!(reply.status(), StatusCode::PAYLOAD_TOO_LARGE);
/// assert_eq!(reply.headers()["x-outcome"], "not-executed");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct BodyLimitLayer {
    max: Option<u64>,
}

impl BodyLimitLayer {
    /// A limit of `max` bytes; `None` passes everything on.
    pub fn new(max: Option<u64>) -> Self {
        Self { max }
    }
}

impl<S> Layer<S> for BodyLimitLayer {
    type Service = BodyLimit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BodyLimit { inner, max: self.max }
    }
}

/// The service of [`BodyLimitLayer`].
#[derive(Debug, Clone)]
pub struct BodyLimit<S> {
    inner: S,
    max: Option<u64>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for BodyLimit<S>
where
    S: Service<Request<LimitedBody<ReqBody>>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OrRefused<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let announced = announced(request.headers());
        let Some(max) = self.max.filter(|max| announced.is_some_and(|announced| announced > *max)) else {
            // A body with an announced length within the limit is never cut off, so only other bodies keep their
            // request's identity.
            let silent = self.max.is_some() && announced.is_none();
            let summary = silent.then(|| summary_of(&mut request, &DeadlinePolicy::default()));
            let max = self.max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
            let limit = |body| LimitedBody { inner: Limited::new(body, max), max, summary };
            return OrRefused::inner(self.inner.call(request.map(limit)));
        };
        let announced = announced.unwrap_or_default();
        let summary = summary_of(&mut request, &DeadlinePolicy::default());
        let why = format!("body of {announced} bytes announced, {max} allowed");
        decide::shed(&summary, "body_limit", "body-limit", why.into());
        let problem =
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "The body is too large")
                .detail(format!("at most {max} bytes"))
                .outcome(Effect::NotExecuted)
                .correlated(&summary.correlation_id);
        OrRefused::refused(problem.into_response())
    }
}

/// The value of `Content-Length`. `None` when it is absent or not a number; the HTTP server in front has already
/// refused the latter.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok())
}

pin_project! {
    /// A request body that ends in an error at the limit.
    #[derive(Debug)]
    pub struct LimitedBody<B> {
        #[pin]
        inner: Limited<B>,
        max: usize,
        summary: Option<RequestSummary>,
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BoxError>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let Some(Err(error)) = &frame
            && error.is::<LengthLimitError>()
            && let Some(summary) = this.summary.take()
        {
            crate::metric::counter!(names::BODY_CUT_OFF).increment(1);
            let why = format!("body of unannounced length exceeded the {} bytes allowed", this.max);
            decide::note(&summary, "body_limit", "cut_off", why.into());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
