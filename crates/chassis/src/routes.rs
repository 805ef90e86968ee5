//! Completion of a router: replies for unknown paths and methods, the correlation id in every problem, and around them the
//! server stack and the tokens.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::extract::MatchedPath;
use axum::response::Response;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use mainstay::headers::IDEMPOTENCY_KEY;
use mainstay::problem::Effect;
use mainstay::server::{LogFields, RequestHead, ServerStack};
use mainstay::{CorrelationId, Problem, RequestContext};
use pin_project_lite::pin_project;
use tower::layer::layer_fn;
use tower::{Layer, Service};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::ApiError;
use crate::error::Reported;

/// Completes the routes of a listener that need no token, and puts the server stack around them.
///
/// The stack stands inside the router's matching, so that [`matched`] can label a request by its route, and around every
/// reply, also those of the fallbacks. A route that is added to the result is outside the stack.
pub fn finish(open: Router, stack: &ServerStack) -> Router {
    with_fallbacks(open).layer((headers(), stack.clone(), correlate()))
}

/// Completes the routes of a listener that need a token. Merge them with those of [`finish`]: no path may be in both, and
/// `guarded` may not have a fallback of its own; both are panics of the router.
///
/// 404 for an unknown path needs no token. 405 for a method that a guarded path does not take needs one.
#[cfg(feature = "auth")]
pub fn guarded(guarded: Router, tokens: &crate::Tokens, stack: &ServerStack) -> Router {
    // One tuple: each layer that a router is given by itself costs every request allocations, and a read of cold memory at
    // each poll.
    #[cfg(feature = "service")]
    let layers = (headers(), stack.clone(), correlate(), crate::database_time::layer(), tokens.layer());
    #[cfg(not(feature = "service"))]
    let layers = (headers(), stack.clone(), correlate(), tokens.layer());
    methods(guarded).layer(layers)
}

/// Completes routes without a server stack, for a listener that needs no limits of that kind.
pub fn complete(router: Router) -> Router {
    with_fallbacks(router).layer((headers(), correlate()))
}

fn with_fallbacks(router: Router) -> Router {
    methods(router).fallback(not_found)
}

/// Adds the reply for methods that a path does not take.
pub(crate) fn methods(router: Router) -> Router {
    router.method_not_allowed_fallback(method_not_allowed)
}

/// The template of the route that matched (`/v1/orders/{id}`), for [`mainstay::server::ServerConfig::route`].
pub fn matched(head: &RequestHead<'_>) -> Option<Cow<'static, str>> {
    head.extensions.get::<MatchedPath>().map(|path| Cow::Owned(path.as_str().to_owned()))
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::not_found(format!("no such path: {}", uri.path()))
}

/// The router adds `Allow`.
async fn method_not_allowed(method: Method) -> ApiError {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This path does not take that method")
        .outcome(Effect::NotExecuted)
        .detail(format!("{method} is not among the methods in Allow"))
        .into()
}

/// Layers for the headers of every request and reply: a debug print hides credentials and idempotency keys, no cache stores
/// a reply, and no browser guesses a type. A handler that sets one of the reply's headers keeps its own value.
pub(crate) fn headers() -> HeaderLayers {
    let secrets: Arc<[_]> = [AUTHORIZATION, COOKIE, IDEMPOTENCY_KEY].into();
    let set = |name, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    (
        SetSensitiveRequestHeadersLayer::from_shared(secrets),
        set(CACHE_CONTROL, "no-store"),
        set(X_CONTENT_TYPE_OPTIONS, "nosniff"),
    )
}

type HeaderLayers = (
    SetSensitiveRequestHeadersLayer,
    SetResponseHeaderLayer<HeaderValue>,
    SetResponseHeaderLayer<HeaderValue>,
);

/// Layer that compresses long replies for clients that accept gzip. It is for lists and feeds: other replies are short.
pub fn compressed() -> CompressionLayer<SizeAbove> {
    // Below 1 KiB a compressed reply needs as many packets as a plain one.
    CompressionLayer::new().compress_when(SizeAbove::new(1_024))
}

pub(crate) fn correlate<S>() -> impl Layer<S, Service = Correlate<S>> + Clone + Send + Sync + 'static {
    layer_fn(|inner| Correlate { inner })
}

/// Service that writes the correlation id into problems that were made without it.
#[derive(Debug, Clone)]
pub(crate) struct Correlate<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Correlate<S>
where
    S: Service<Request<B>, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Correlated<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = request.extensions().get::<RequestContext>();
        let correlation_id = context.map(|context| context.correlation_id.clone());
        let fields = request.extensions().get::<LogFields>().cloned();
        Correlated { inner: self.inner.call(request), correlation_id, fields }
    }
}

pin_project! {
    #[derive(Debug)]
    pub(crate) struct Correlated<F> {
        #[pin]
        inner: F,
        correlation_id: Option<CorrelationId>,
        fields: Option<LogFields>,
    }
}

impl<F: Future<Output = Result<Response, E>>, E> Future for Correlated<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(id) = this.correlation_id.take()
            && let Some(Reported(problem)) = response.extensions_mut().remove()
        {
            if let Some(fields) = this.fields {
                fields.set("error.type", problem.name());
            }
            let written: Response = problem.correlated(&id).into_response();
            let (parts, body) = written.into_parts();
            *response.body_mut() = body;
            // They describe the body that is replaced.
            response.headers_mut().remove(CONTENT_LENGTH);
            response.headers_mut().remove(CONTENT_ENCODING);
            response.headers_mut().extend(parts.headers);
        }
        Poll::Ready(Ok(response))
    }
}
