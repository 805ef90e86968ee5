//! A quota for each principal, so that one principal cannot use up the capacity of all.
//!
//! The layer is outside the queue, because a principal over its quota must not take a slot there, and inside the
//! deadline, because an expired request must not use quota. Every counted reply carries `RateLimit-Policy` and
//! `RateLimit` (fields of the IETF httpapi draft), so that a client can slow down before it is refused.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use serde::Serialize;
use tower::{Layer, Service};

use super::context::{DeadlinePolicy, ensure};
use super::decide;
use super::drain::OrRefused;
use super::head::RequestHead;
use super::record::millis;
use crate::RequestContext;
use crate::limit::{Allowance, QuotaSpent, RateLimiter};
use crate::problem::{Effect, Problem};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Function that returns the key whose quota a request uses; `None` uses no quota.
pub type KeyFn = Arc<dyn for<'a> Fn(&RequestHead<'a>) -> Option<Cow<'a, str>> + Send + Sync>;

/// Settings of the quota per key.
#[derive(Clone)]
#[non_exhaustive]
pub struct RateLimitConfig {
    /// Requests per window and key. An idle key may spend them all at once.
    pub quota: NonZeroU32,
    /// The window, at least a millisecond.
    pub window: Duration,
    /// Keys remembered at the same time. A forgotten key starts with a whole quota. Default 10,000, some 200 KiB.
    pub max_keys: usize,
    /// Function that returns the key of a request.
    pub key: KeyFn,
}

crate::settings::setters! {
    RateLimitConfig {
        quota: NonZeroU32,
        window: Duration,
        max_keys: usize,
    }
}

impl RateLimitConfig {
    /// `quota` requests per `window` for each key that `key` finds.
    pub fn new(
        quota: NonZeroU32,
        window: Duration,
        key: impl for<'a> Fn(&RequestHead<'a>) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    ) -> Self {
        Self { quota, window, max_keys: 10_000, key: Arc::new(key) }
    }
}

impl fmt::Debug for RateLimitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitConfig")
            .field("quota", &self.quota)
            .field("window", &self.window)
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}

/// Layer that refuses requests of a key over its quota. Without a configuration it passes everything on.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use mainstay::server::RateLimitConfig;
/// use mainstay::server::rate_limit::RateLimitLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let quota = 1.try_into()?;
/// let config = RateLimitConfig::new(quota, std::time::Duration::from_secs(60), |head| {
///     head.headers.get("x-tenant").and_then(|v| v.to_str().ok()).map(Into::into)
/// });
/// let service = RateLimitLayer::new(Some(config))
///     .layer(service_fn(|_: Request<()>| async { Ok::<_, std::convert::Infallible>(Response::new(Bytes::new())) }));
/// let request = || Request::builder().header("x-tenant", "a").body(());
/// assert_eq!(service.clone().oneshot(request()?).await?.headers()["ratelimit"], "\"principal\";r=0;t=60");
/// let refused = service.oneshot(request()?).await?;
/// assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
/// assert_eq!(refused.headers()["retry-after"], "60");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct RateLimitLayer {
    quota: Option<Arc<Quota>>,
}

pub(crate) struct Quota {
    limiter: RateLimiter,
    key: KeyFn,
    policy: HeaderValue,
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.limiter.fmt(f)
    }
}

impl RateLimitLayer {
    /// A layer whose services and clones share the quotas.
    pub fn new(config: Option<RateLimitConfig>) -> Self {
        let quota = config.map(|config| {
            let policy = format!("\"principal\";q={};w={}", config.quota, whole_seconds(config.window));
            Arc::new(Quota {
                limiter: RateLimiter::new(config.quota, config.window, config.max_keys),
                key: config.key,
                policy: HeaderValue::try_from(policy).expect("digits, letters and punctuation of ASCII"),
            })
        });
        Self { quota }
    }
}

/// The quotas' state at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RateLimitSnapshot {
    /// Requests per window and key.
    pub quota: u32,
    /// The window, in milliseconds.
    pub window_ms: u64,
    /// Keys remembered now.
    pub keys: usize,
}

impl RateLimitLayer {
    pub(super) fn snapshot(&self) -> Option<RateLimitSnapshot> {
        self.quota.as_ref().map(|quota| quota.snapshot())
    }

    /// A weak reference to the quotas, if there are any, for a registry that does not keep them alive.
    pub(crate) fn downgrade(&self) -> Option<Weak<Quota>> {
        self.quota.as_ref().map(Arc::downgrade)
    }
}

impl Quota {
    pub(crate) fn snapshot(&self) -> RateLimitSnapshot {
        let limiter = &self.limiter;
        RateLimitSnapshot {
            quota: limiter.quota(),
            window_ms: millis(limiter.window()),
            keys: limiter.keys(),
        }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit { inner, layer: self.clone() }
    }
}

/// The service of [`RateLimitLayer`].
#[derive(Debug, Clone)]
pub struct RateLimit<S> {
    inner: S,
    layer: RateLimitLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RateLimit<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OrRefused<RateLimitFuture<S::Future>, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let head = RequestHead::from(&request);
        let counted = self.layer.quota.as_ref().and_then(|quota| {
            let key = (quota.key)(&head)?;
            Some((quota, quota.limiter.check(&*key)))
        });
        let allowed = match counted {
            None => None,
            Some((quota, Ok(allowance))) => Some((Arc::clone(quota), allowance)),
            Some((quota, Err(spent))) => {
                let quota = Arc::clone(quota);
                let context = ensure(&mut request, &DeadlinePolicy::default(), None);
                return OrRefused::refused(refuse(&context, &quota, spent));
            }
        };
        OrRefused::inner(RateLimitFuture { inner: self.inner.call(request), allowed })
    }
}

fn refuse<B: From<Bytes>>(context: &RequestContext, quota: &Quota, spent: QuotaSpent) -> Response<B> {
    let (q, window) = (quota.limiter.quota(), quota.limiter.window());
    let why = format!("quota of {q} in {window:?} spent; next in {} ms", spent.retry_after.as_millis());
    decide::shed(context, "rate_limit", "rate-limit", why.into());
    let mut response =
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", "The quota is spent for now")
            .outcome(Effect::NotExecuted)
            .retry_after(whole_seconds(spent.retry_after).max(1))
            .correlated(&context.correlation_id)
            .into_response();
    write_headers(response.headers_mut(), quota, 0, spent.reset);
    response
}

fn write_headers(headers: &mut HeaderMap, quota: &Quota, remaining: u32, reset: Duration) {
    let text = format!("\"principal\";r={remaining};t={}", whole_seconds(reset));
    headers.insert(RATELIMIT, HeaderValue::try_from(text).expect("digits, letters and punctuation of ASCII"));
    headers.insert(RATELIMIT_POLICY, quota.policy.clone());
}

/// Whole seconds, rounded up, so that a client that waits this long has waited long enough.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

pin_project! {
    /// The future of [`RateLimit`].
    #[derive(Debug)]
    pub struct RateLimitFuture<F> {
        #[pin]
        inner: F,
        allowed: Option<(Arc<Quota>, Allowance)>,
    }
}

impl<F, ResBody, E> Future for RateLimitFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut reply = ready!(this.inner.poll(cx));
        if let (Ok(response), Some((quota, allowance))) = (&mut reply, this.allowed.take()) {
            write_headers(response.headers_mut(), &quota, allowance.remaining, allowance.reset);
        }
        Poll::Ready(reply)
    }
}
