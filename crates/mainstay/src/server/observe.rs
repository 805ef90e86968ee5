//! The canonical log line, the metrics of rate, errors and duration, and a span around the request.
//!
//! This layer is second from outside: it must see every reply, also the refusals of inner layers, and it needs the
//! ids from the context layer. A request ends when its reply's body has been sent or dropped, and not when its head
//! is ready, so that a slow or cut download is measured and reported as one.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::instrument::{Instrument as _, Instrumented};

use super::context::{DeadlinePolicy, ensure};
use super::head::RequestHead;
use super::log_fields::LogFields;
use super::meters::Meters;
use super::record::{ObserverFn, Record, method_label};
use crate::Outcome;

/// The route of a request, as a template from a small fixed set (`/v1/orders/{id}`), for metrics and logs. Put it
/// into the request's extensions outside the stack, or supply a closure; without either it is `unmatched`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteLabel(pub Cow<'static, str>);

/// Function that finds the route of a request.
pub type RouteFn = Arc<dyn Fn(&RequestHead<'_>) -> Option<Cow<'static, str>> + Send + Sync>;

/// Layer that writes one canonical log line per request, and its metrics.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use mainstay::server::LogFields;
/// use mainstay::server::observe::ObserveLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), std::convert::Infallible> {
/// let service = ObserveLayer::default().layer(service_fn(|request: Request<()>| async move {
///     request.extensions().get::<LogFields>().expect("the layer put it there").set("order_id", "7");
///     Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::new())))
/// }));
/// let reply = service.oneshot(Request::new(())).await?;
/// drop(reply); // the line is written now, with `fields` {"order_id":"7"}
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct ObserveLayer {
    route: Option<RouteFn>,
    meters: Arc<Meters>,
    observer: Option<ObserverFn>,
}

impl ObserveLayer {
    /// A layer that uses `route` for requests without a [`RouteLabel`].
    pub fn new(route: Option<RouteFn>) -> Self {
        Self { route, ..Self::default() }
    }

    /// Passes each request that has ended to `observer`, independently of log filters.
    #[must_use]
    pub fn observer(mut self, observer: Option<ObserverFn>) -> Self {
        self.observer = observer;
        self
    }

    /// Starts the series of a route at zero, for each of `statuses`.
    pub fn expect(
        &self,
        route: impl Into<Cow<'static, str>>,
        method: &Method,
        statuses: impl IntoIterator<Item = StatusCode>,
    ) {
        self.meters.expect(&(route.into(), method_label(method)), statuses);
    }

    fn route_of(&self, head: &RequestHead<'_>) -> Cow<'static, str> {
        if let Some(RouteLabel(route)) = head.extensions.get() {
            return route.clone();
        }
        self.route.as_ref().and_then(|f| f(head)).unwrap_or(Cow::Borrowed("unmatched"))
    }
}

impl fmt::Debug for ObserveLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObserveLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observe { inner, layer: self.clone() }
    }
}

/// The service of [`ObserveLayer`].
#[derive(Debug, Clone)]
pub struct Observe<S> {
    inner: S,
    layer: ObserveLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Observe<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
{
    type Response = Response<ObservedBody<ResBody>>;
    type Error = S::Error;
    type Future = ObserveFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let context = ensure(&mut request, &DeadlinePolicy::default(), None);
        let head = RequestHead::from(&request);
        let (method, route) = (method_label(head.method), self.layer.route_of(&head));
        let bodiless = head.method == Method::HEAD;
        let span = tracing::info_span!(
            target: "mainstay::server",
            "request",
            otel.kind = "server",
            otel.name = format_args!("{method} {route}"),
            http.request.method = method,
            http.route = &*route,
            http.response.status_code = tracing::field::Empty,
            outcome = tracing::field::Empty,
            correlation_id = context.correlation_id.as_str(),
            trace_id = context.trace.trace_id_hex(),
            span_id = context.trace.span_id_hex(),
            parent_span_id = context.trace.parent_id_hex(),
        );
        let fields = LogFields::default();
        request.extensions_mut().insert(fields.clone());
        let observer = self.layer.observer.clone();
        let record =
            Record::open(context, (route, method), fields, span.clone(), &self.layer.meters, observer);
        let inner = span.in_scope(|| self.inner.call(request));
        ObserveFuture { inner: inner.instrument(span), record: Some(record), bodiless }
    }
}

pin_project! {
    /// The future of [`Observe`]. If it is dropped before it is ready, it records the request as cancelled.
    #[derive(Debug)]
    pub struct ObserveFuture<F> {
        // Declared before `record`, so that log lines that the handler writes while it is dropped still belong to the
        // request.
        #[pin]
        inner: Instrumented<F>,
        record: Option<Record>,
        bodiless: bool,
    }
}

impl<F, ResBody, E> Future for ObserveFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ResBody: Body,
{
    type Output = Result<Response<ObservedBody<ResBody>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.inner.poll(cx));
        let mut record = this.record.take().expect("an ObserveFuture is not polled again after it was ready");
        Poll::Ready(match outcome {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                record.replied(parts.status, &parts.headers);
                let bodiless = *this.bodiless
                    || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
                let expected = if bodiless { Some(0) } else { body.size_hint().exact() };
                Ok(Response::from_parts(parts, ObservedBody { inner: body, record, expected }))
            }
            Err(error) => {
                record.close(Outcome::Unknown);
                Err(error)
            }
        })
    }
}

pin_project! {
    /// A reply's body that closes its request's record when it ends.
    #[derive(Debug)]
    pub struct ObservedBody<B> where B: Body {
        #[pin]
        inner: B,
        record: Record,
        expected: Option<u64>,
    }

    impl<B: Body> PinnedDrop for ObservedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            // A server stops polling after the last bytes and does not wait for the end of the stream.
            let this = this.project();
            let complete = this.inner.is_end_stream() || this.expected.is_some_and(|all| this.record.bytes >= all);
            let outcome = this.record.outcome.filter(|_| complete).unwrap_or(Outcome::Cancelled);
            this.record.close(outcome);
        }
    }
}

impl<B: Body> Body for ObservedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let _entered = this.record.span.clone().entered();
        let frame = ready!(this.inner.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let sent = frame.data_ref().map_or(0, bytes::Buf::remaining);
                this.record.bytes += u64::try_from(sent).unwrap_or(u64::MAX);
            }
            // The head was already sent, so the caller sees a cut reply and cannot know its request's outcome.
            Some(Err(_)) => this.record.close(Outcome::Unknown),
            None => this.record.close(this.record.outcome.unwrap_or(Outcome::Unknown)),
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
