//! A body that is announced as too large is refused before it takes a place in the queue, and before it is sent:
//! a client that waits for `100 Continue` never sends it.
//!
//! A body that announces nothing is cut off while it is read: at the limit the reader gets
//! [`http_body_util::LengthLimitError`], of which axum's extractors make a 413.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Limited;
use tower::{Layer, Service};

use super::context::{DeadlinePolicy, ensure};
use super::decide;
use super::drain::OrRefused;
use crate::problem::{Effect, Problem};

/// Refuses bodies announced as longer than so many bytes, and cuts off the others there. Without a number it lets
/// everything pass.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::{BodyExt, Full, Limited};
/// use mainstay::server::body_limit::BodyLimitLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = BodyLimitLayer::new(Some(4)).layer(service_fn(|request: Request<Limited<Full<Bytes>>>| async {
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
    /// At most `max` bytes.
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
    S: Service<Request<Limited<ReqBody>>, Response = Response<ResBody>>,
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
        let Some(max) = self.max.filter(|max| announced > *max) else {
            let most = self.max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
            return OrRefused::inner(self.inner.call(request.map(|body| Limited::new(body, most))));
        };
        let context = ensure(&mut request, &DeadlinePolicy::default(), None);
        let why = format!("a body of {announced} bytes, above the {max} allowed");
        decide::shed(&context, "body_limit", "body-limit", why.into());
        let problem =
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "The body is too large")
                .detail(format!("at most {max} bytes"))
                .outcome(Effect::NotExecuted)
                .correlated(&context.correlation_id);
        OrRefused::refused(problem.into_response())
    }
}

/// What `Content-Length` says; 0 when it is absent or no number, which the server in front has ruled out.
fn announced(headers: &HeaderMap) -> u64 {
    headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or_default()
}
