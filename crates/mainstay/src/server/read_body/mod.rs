//! Reads a request's body before a permit is taken, so that a client that sends slowly holds no permit.
//!
//! The layer is outside the concurrency limit, whose permits are for work, and inside the quota, so that no body is
//! read for a principal over its quota. Handlers that collect their body then find it complete. The layer bounds
//!
//! * the size: a longer body is 413;
//! * the time, which ends at the request's deadline at the latest: a body that takes longer is 408;
//! * the bodies that are read at the same time, for each principal (429) and in all (503), so that one client cannot
//!   take the memory or the permits of the others.
//!
//! Each refusal says `not-executed`, and `Connection: close` where the rest of the body is unread. A request without
//! a body, or with a body that arrived together with its head, needs no permit to read and starts no timer.
//!
//! A request without a principal is passed on with its body unread, and authentication refuses it: an unknown caller
//! cannot make the server buffer anything. If the body is still unread when the reply is made, the reply closes the
//! connection. A body that fails while it is read is passed on too, with the failure at its end.

mod body;
mod future;
mod permits;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body::Body;
use tower::{Layer, Service};

pub use self::body::ReceivedBody;
pub use self::future::ReadBodyFuture;
use self::permits::ReadPermits;
use super::context::{DeadlinePolicy, summary_of};
use super::head::RequestHead;
use super::rate_limit::KeyFn;

/// Bounds on the reading of bodies.
#[derive(Clone)]
#[non_exhaustive]
pub struct ReadBodyConfig {
    /// The longest body, in bytes; at least 1.
    pub max: usize,
    /// Longest time for reading one body; longer than zero. Default 2 s, the default deadline of a request.
    pub time: Duration,
    /// Bodies that may be read at the same time, in all; at least 1. Default 256: at 256 KiB each they are 64 MiB.
    pub at_once: usize,
    /// Bodies that may be read at the same time for one principal; at least 1. Default 64: four principals together
    /// fill `at_once`.
    pub at_once_each: usize,
    /// Function that returns the principal whose share the reading uses; `None` leaves the body unread.
    pub key: KeyFn,
}

crate::settings::setters! {
    ReadBodyConfig {
        max: usize,
        time: Duration,
        at_once: usize,
        at_once_each: usize,
    }
}

impl ReadBodyConfig {
    /// Reads bodies of `max` bytes at most, for the principals that `key` finds.
    pub fn new(
        max: usize,
        key: impl for<'a> Fn(&RequestHead<'a>) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    ) -> Self {
        Self { max, time: Duration::from_secs(2), at_once: 256, at_once_each: 64, key: Arc::new(key) }
    }
}

impl fmt::Debug for ReadBodyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBodyConfig")
            .field("max", &self.max)
            .field("time", &self.time)
            .field("at_once", &self.at_once)
            .field("at_once_each", &self.at_once_each)
            .finish_non_exhaustive()
    }
}

/// Layer that reads bodies. Without a configuration it passes them on unread.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::{BodyExt, Full};
/// use mainstay::server::read_body::{ReadBodyConfig, ReadBodyLayer, ReceivedBody};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = ReadBodyConfig::new(4, |head| head.headers.get("x-tenant")?.to_str().ok().map(Into::into));
/// let echo = service_fn(|request: Request<ReceivedBody<Full<Bytes>>>| async {
///     request.into_body().collect().await.map(|body| Response::new(body.to_bytes()))
/// });
/// let service = ReadBodyLayer::new(Some(config)).layer(echo);
/// let post = |body: &'static str| Request::post("/").header("x-tenant", "a").body(Full::from(body));
/// assert_eq!(service.clone().oneshot(post("four")?).await?.into_body(), "four");
/// let refused = service.oneshot(post("fives")?).await?;
/// assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
/// assert_eq!(refused.headers()["x-outcome"], "not-executed");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct ReadBodyLayer(Option<Arc<BodyLimits>>);

#[derive(Debug)]
struct BodyLimits {
    config: ReadBodyConfig,
    permits: Arc<ReadPermits>,
}

impl ReadBodyLayer {
    /// A layer whose services and clones share the permits to read.
    pub fn new(config: Option<ReadBodyConfig>) -> Self {
        Self(config.map(|config| {
            let permits = Arc::new(ReadPermits::new(config.at_once, config.at_once_each));
            Arc::new(BodyLimits { config, permits })
        }))
    }

    /// Bodies that are being read now.
    pub fn reading(&self) -> usize {
        self.0.as_ref().map_or(0, |shared| shared.permits.taken())
    }
}

impl<S> Layer<S> for ReadBodyLayer {
    type Service = ReadBody<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ReadBody { inner, layer: self.clone() }
    }
}

/// The service of [`ReadBodyLayer`].
#[derive(Debug, Clone)]
pub struct ReadBody<S> {
    inner: S,
    layer: ReadBodyLayer,
}

impl<S, B, ResBody> Service<Request<B>> for ReadBody<S>
where
    S: Service<Request<ReceivedBody<B>>, Response = Response<ResBody>> + Clone,
    B: Body,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ReadBodyFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some(shared) = self.layer.0.as_ref().filter(|_| !request.body().is_end_stream()) else {
            return ReadBodyFuture::pass(self.inner.call(request.map(ReceivedBody::empty)), None);
        };
        let key = (shared.config.key)(&RequestHead::from(&request)).map(Arc::<str>::from);
        let Some(key) = key else {
            let (request, ended) = ReceivedBody::unread(request);
            return ReadBodyFuture::pass(self.inner.call(request), Some(ended));
        };
        let summary = summary_of(&mut request, &DeadlinePolicy::default());
        // The ready service serves this request; its clone becomes ready by the next `poll_ready`.
        let clone = self.inner.clone();
        let service = std::mem::replace(&mut self.inner, clone);
        ReadBodyFuture::read(Arc::clone(shared), key, summary, service, request)
    }
}

/// The value of `Content-Length`. `None` when it is absent or not a number; the HTTP server in front has already
/// refused the latter.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok())
}
