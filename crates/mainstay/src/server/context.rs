//! The outermost layer: gives each request its correlation id, trace, deadline and priority.
//!
//! Every inner layer can then name the request, also in a refusal. Every reply carries the correlation id. A client's
//! id is accepted only when it is 1 to 64 of `A-Za-z0-9._-`, because any other id could forge log lines. Otherwise it
//! is replaced, counted in `mainstay_server_correlation_replaced_total`, and logged at most once a minute. A
//! deadline, attempt, priority or trace that cannot be read counts as absent, is counted in
//! `mainstay_server_header_ignored_total{header}`, and is logged at most once a minute. A lowered priority and a
//! deadline cut to the maximum are decisions on the trail.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::head::RequestHead;
use super::{decide, names};
use crate::context::{Priority, RequestSummary};
use crate::headers::{TRACEPARENT, TRACESTATE, X_ATTEMPT, X_CORRELATION_ID, X_DEADLINE_MS, X_PRIORITY};
use crate::{CorrelationId, Deadline, DecisionTrail, RequestContext, TraceContext};

/// Deadlines of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadlinePolicy {
    /// Time for a client without a readable deadline. Default 2 s, as in the contract.
    pub default: Duration,
    /// Longest time for a client that asks for more. Default 30 s.
    pub max: Duration,
}

impl Default for DeadlinePolicy {
    fn default() -> Self {
        Self { default: Duration::from_secs(2), max: Duration::from_secs(30) }
    }
}

impl DeadlinePolicy {
    /// `default` for a client without a readable deadline, and at most `max` for a client that asks for more.
    pub fn new(default: Duration, max: Duration) -> Self {
        Self { default, max }
    }

    /// The deadline of a request that arrives now with these headers.
    pub fn deadline(&self, headers: &HeaderMap) -> Deadline {
        Deadline::after(Deadline::left_from_headers(headers).unwrap_or(self.default).min(self.max))
    }
}

/// Function that returns the highest priority that a request may claim.
pub type PriorityFn = Arc<dyn Fn(&RequestHead<'_>) -> Priority + Send + Sync>;

/// Layer that puts a [`RequestContext`] into the request's extensions and the correlation id onto the reply. It keeps
/// a context that an outer layer has already inserted.
///
/// ```
/// use http::{Request, Response};
/// use mainstay::RequestContext;
/// use mainstay::server::context::ContextLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = ContextLayer::default().layer(service_fn(|request: Request<()>| async move {
///     let context = request.extensions().get::<RequestContext>().expect("the layer put it there");
///     Ok::<_, std::convert::Infallible>(Response::new(context.attempt))
/// }));
/// let request = Request::builder().header("x-correlation-id", "order-7").header("x-attempt", "2").body(())?;
/// let reply = service.oneshot(request).await?;
/// assert_eq!(reply.headers()["x-correlation-id"], "order-7");
/// assert_eq!(reply.into_body(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct ContextLayer {
    policy: DeadlinePolicy,
    ceiling: Option<PriorityFn>,
    complaints: Arc<Complaints>,
}

impl ContextLayer {
    /// A layer with this deadline policy.
    pub fn new(policy: DeadlinePolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Lowers the priority of requests that claim more than `ceiling` allows. Without it `X-Priority` is accepted as
    /// claimed, which is right only when every caller is trusted.
    #[must_use]
    pub fn priority_ceiling(mut self, ceiling: Option<PriorityFn>) -> Self {
        self.ceiling = ceiling;
        self
    }

    fn identify<B>(&self, request: &mut Request<B>) -> RequestContext {
        let claimed = single(request.headers(), &X_PRIORITY).and_then(Priority::parse);
        let ceiling = self.ceiling.as_ref().filter(|_| claimed.is_some());
        let most = ceiling.map_or(Priority::Critical, |ceiling| ceiling(&RequestHead::from(&*request)));
        let Some(claimed) = claimed.filter(|claimed| *claimed > most) else {
            return ensure(request, &self.policy, Some(&self.complaints));
        };
        // Layers and handlers that read the header later must see the lowered priority too.
        request.headers_mut().insert(X_PRIORITY, HeaderValue::from_static(most.as_str()));
        let context = ensure(request, &self.policy, Some(&self.complaints));
        crate::metric::counter!(names::PRIORITY_LOWERED).increment(1);
        let why = format!("claimed {}, at most {} allowed", claimed.as_str(), most.as_str());
        decide::note(&context, "context", "lower_priority", why.into());
        context
    }
}

impl fmt::Debug for ContextLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextLayer").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for ContextLayer {
    type Service = Context<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Context { inner, layer: self.clone() }
    }
}

/// The service of [`ContextLayer`].
#[derive(Debug, Clone)]
pub struct Context<S> {
    inner: S,
    layer: ContextLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Context<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ContextFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let context = self.layer.identify(&mut request);
        let correlation_id = context.correlation_id.to_header_value();
        ContextFuture { inner: self.inner.call(request), correlation_id: Some(correlation_id) }
    }
}

/// The request's context. It is made from the headers and inserted if no outer layer has done so. `complaints` limits
/// the log messages about headers that cannot be read; without it they are only counted.
pub(super) fn ensure<B>(
    request: &mut Request<B>,
    policy: &DeadlinePolicy,
    complaints: Option<&Complaints>,
) -> RequestContext {
    if let Some(context) = request.extensions().get::<RequestContext>() {
        return context.clone();
    }
    let headers = request.headers();
    let correlation_id = correlation_id(headers, complaints);
    let reader = Reader { headers, complaints, correlation_id: &correlation_id };
    let caller = reader.read(&TRACEPARENT, TraceContext::from_headers);
    if caller.as_ref().is_some_and(|caller| caller.state.is_none()) && headers.contains_key(TRACESTATE) {
        reader.ignored(&TRACESTATE);
    }
    let asked = reader.read(&X_DEADLINE_MS, Deadline::left_from_headers);
    let context = RequestContext {
        trace: caller.map_or_else(TraceContext::root, |caller| caller.child()),
        deadline: Deadline::after(asked.unwrap_or(policy.default).min(policy.max)),
        attempt: reader.read(&X_ATTEMPT, attempt).unwrap_or(1),
        priority: reader.read(&X_PRIORITY, priority).unwrap_or_default(),
        trail: DecisionTrail::new(),
        correlation_id,
    };
    if let Some(asked) = asked.filter(|asked| *asked > policy.max) {
        let why = format!("{} ms requested, at most {} allowed", asked.as_millis(), policy.max.as_millis());
        decide::note(&context, "context", "cut_deadline", why.into());
    }
    request.extensions_mut().insert(context.clone());
    context
}

/// The summary for a layer that may later record a decision about its request.
pub(super) fn summary_of<B>(request: &mut Request<B>, policy: &DeadlinePolicy) -> RequestSummary {
    match request.extensions().get::<RequestContext>() {
        Some(context) => RequestSummary::from(context),
        None => RequestSummary::from(&ensure(request, policy, None)),
    }
}

/// Reader of headers that counts and logs each header that is present and cannot be read.
struct Reader<'a> {
    headers: &'a HeaderMap,
    complaints: Option<&'a Complaints>,
    correlation_id: &'a CorrelationId,
}

impl Reader<'_> {
    fn read<T>(&self, name: &HeaderName, read: impl FnOnce(&HeaderMap) -> Option<T>) -> Option<T> {
        let value = read(self.headers);
        if value.is_none() && self.headers.contains_key(name) {
            self.ignored(name);
        }
        value
    }

    #[cold]
    fn ignored(&self, name: &HeaderName) {
        crate::metric::counter!(names::HEADER_IGNORED, "header" => name.to_string()).increment(1);
        if self.complaints.is_some_and(|complaints| complaints.due(name)) {
            tracing::warn!(
                header = %name,
                values = self.headers.get_all(name).iter().count(),
                length = self.headers.get(name).map(HeaderValue::len),
                correlation_id = %self.correlation_id,
                "request header cannot be read and counts as absent; logged at most once a minute"
            );
        }
    }
}

fn correlation_id(headers: &HeaderMap, complaints: Option<&Complaints>) -> CorrelationId {
    let mut values = headers.get_all(X_CORRELATION_ID).iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else { return CorrelationId::mint() };
    let parsed = value.to_str().ok().filter(|_| second.is_none()).and_then(|t| CorrelationId::parse(t).ok());
    parsed.unwrap_or_else(|| {
        let minted = CorrelationId::mint();
        crate::metric::counter!(names::CORRELATION_REPLACED).increment(1);
        if complaints.is_some_and(|complaints| complaints.due(&X_CORRELATION_ID)) {
            tracing::warn!(
                correlation_id = %minted,
                length = value.len(),
                "correlation id is not 1 to 64 of A-Za-z0-9._- and was replaced; logged at most once a minute"
            );
        }
        minted
    })
}

/// `X-Attempt`: 1 to 4 digits, at least 1.
fn attempt(headers: &HeaderMap) -> Option<u32> {
    let text = single(headers, &X_ATTEMPT)?;
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|attempt| digits && *attempt >= 1)
}

/// `X-Priority`: one of the four names.
fn priority(headers: &HeaderMap) -> Option<Priority> {
    single(headers, &X_PRIORITY).and_then(Priority::parse)
}

fn single<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    value.to_str().ok()
}

/// Time of the last log message about each header. A client that sends malformed headers usually sends many of them.
#[derive(Debug, Default)]
pub(super) struct Complaints([OncePerMinute; 6]);

impl Complaints {
    pub(super) const OF: [HeaderName; 6] =
        [X_CORRELATION_ID, X_DEADLINE_MS, X_ATTEMPT, X_PRIORITY, TRACEPARENT, TRACESTATE];

    fn due(&self, name: &HeaderName) -> bool {
        let at = Self::OF.iter().position(|header| header == name);
        at.is_some_and(|at| self.0[at].first(Instant::now()))
    }
}

/// A limit of one log message per minute: true for the first caller in each minute.
#[derive(Debug)]
struct OncePerMinute {
    began: Instant,
    /// Milliseconds from `began` to the last time it was true, plus one; 0 before the first.
    last: AtomicU64,
}

impl Default for OncePerMinute {
    fn default() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl OncePerMinute {
    fn first(&self, now: Instant) -> bool {
        let at = u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let last = self.last.load(Ordering::Relaxed);
        let due = last == 0 || at.saturating_sub(last) >= 60_000;
        due && self.last.compare_exchange(last, at, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

pin_project! {
    /// The future of [`Context`].
    #[derive(Debug)]
    pub struct ContextFuture<F> {
        #[pin]
        inner: F,
        correlation_id: Option<HeaderValue>,
    }
}

impl<F, ResBody, E> Future for ContextFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut outcome = ready!(this.inner.poll(cx));
        if let (Ok(response), Some(id)) = (&mut outcome, this.correlation_id.take()) {
            response.headers_mut().insert(X_CORRELATION_ID, id);
        }
        Poll::Ready(outcome)
    }
}
