//! Classifies each attempt's reply once, counts it, and records it on the decision trail. Each attempt is a span of
//! its own, so that a trace shows the retries side by side, each with the peer's work for it.
//!
//! The layer is inside the breaker, so that a refused call is not an attempt, and outside the attempt timeout, so
//! that a timeout is one.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::metric::{Counter, counter};
use http::{Request, Uri};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::Span;

use super::ReplyReader;
use crate::classify::{Classified, HasOutcome, Summary};
use crate::client_names as names;
use crate::context::RequestSummary;
use crate::decision::{Decided, Level};
use crate::{CallError, Endpoint, Outcome, RepeatedWork, RequestContext};

#[derive(Debug)]
struct AttemptCounters {
    peer: Arc<str>,
    attempts: [Counter; Outcome::ALL.len()],
}

/// Layer that classifies and counts attempts.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use mainstay::client::AttemptLayer;
/// use mainstay::{CallError, Outcome, classify};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let transport = service_fn(|_: Request<()>| async { Ok::<_, CallError>(Response::new(Bytes::new())) });
/// let attempt = AttemptLayer::new("inventory").layer(transport);
/// let request = Request::get("http://127.0.0.1:8081/v1/items").body(())?;
/// assert_eq!(classify::outcome(&attempt.oneshot(request).await), Outcome::Success);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AttemptLayer(Arc<AttemptCounters>);

impl AttemptLayer {
    /// A layer that counts in `mainstay_client_attempts_total{peer, outcome}`.
    pub fn new(peer: &str) -> Self {
        let attempts = Outcome::ALL.map(
            |outcome| counter!(names::ATTEMPTS, "peer" => peer.to_owned(), "outcome" => outcome.as_str()),
        );
        Self(Arc::new(AttemptCounters { peer: peer.into(), attempts }))
    }
}

impl<S> Layer<S> for AttemptLayer {
    type Service = Attempt<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Attempt { inner, shared: Arc::clone(&self.0), last: None }
    }
}

/// The service of [`AttemptLayer`].
#[derive(Debug, Clone)]
pub struct Attempt<S> {
    inner: S,
    shared: Arc<AttemptCounters>,
    /// The endpoint of the last call and its name. The next call usually has the same endpoint.
    last: Option<(Endpoint, Cow<'static, str>)>,
}

impl<S, B> Service<Request<B>> for Attempt<S>
where
    S: Service<Request<B>>,
    S::Response: HasOutcome + 'static,
    S::Error: Into<CallError>,
{
    type Response = Classified<S::Response>;
    type Error = CallError;
    type Future = AttemptFuture<S::Future, S::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let endpoint = self.name_of(request.uri());
        let method = request.method().clone();
        let repeated = RepeatedWork::marks(&request);
        let (mut span, mut summary) = (Span::none(), None);
        if let Some(context) = request.extensions_mut().get_mut::<RequestContext>() {
            context.trace.descend();
            summary = Some(RequestSummary::from(&*context));
            span = tracing::info_span!(
                target: "mainstay::client",
                "attempt",
                otel.kind = "client",
                otel.name = format_args!("{method} {}", self.shared.peer),
                http.request.method = method.as_str(),
                server.address = endpoint.as_deref(),
                peer = &*self.shared.peer,
                attempt = context.attempt,
                repeated,
                http.response.status_code = tracing::field::Empty,
                outcome = tracing::field::Empty,
                error.message = tracing::field::Empty,
                correlation_id = context.correlation_id.as_str(),
                trace_id = context.trace.trace_id_hex(),
                span_id = context.trace.span_id_hex(),
                parent_span_id = context.trace.parent_id_hex(),
            );
        }
        let reader = request.extensions().get().cloned();
        let note = Note { summary, endpoint, span, shared: Arc::clone(&self.shared), open: true };
        let entered = note.span.enter();
        let call = Some(self.inner.call(request));
        drop(entered);
        AttemptFuture { call, reader, note }
    }
}

impl<S> Attempt<S> {
    #[inline]
    fn name_of(&mut self, uri: &Uri) -> Option<Cow<'static, str>> {
        match &self.last {
            Some((endpoint, name)) if endpoint.is_of(uri) => Some(name.clone()),
            _ => {
                let endpoint = Endpoint::of(uri)?;
                let name = endpoint.name();
                self.last = Some((endpoint, name.clone()));
                Some(name)
            }
        }
    }
}

pin_project! {
    /// The attempt. If it is dropped, it counts as cancelled.
    #[derive(Debug)]
    pub struct AttemptFuture<F, R> {
        // Only drop removes the call, so that events of its destructors belong to its span.
        #[pin]
        call: Option<F>,
        reader: Option<ReplyReader<R>>,
        note: Note,
    }

    impl<F, R> PinnedDrop for AttemptFuture<F, R> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _entered = this.note.span.enter();
            this.call.set(None);
        }
    }
}

#[derive(Debug)]
struct Note {
    summary: Option<RequestSummary>,
    endpoint: Option<Cow<'static, str>>,
    span: Span,
    shared: Arc<AttemptCounters>,
    /// True until the outcome of the attempt is recorded.
    open: bool,
}

impl Note {
    fn finished<R: HasOutcome>(&mut self, result: &Result<Classified<R>, CallError>) {
        let outcome = crate::classify::outcome(result);
        self.shared.attempts[outcome as usize].increment(1);
        if let Err(CallError::UnreadableReply { reply: Summary::Status(status), .. }) = result {
            self.span.record("http.response.status_code", status.as_u16());
        }
        match result.as_ref().map_or_else(HasOutcome::summary, HasOutcome::summary) {
            Summary::Status(status) => self.span.record("http.response.status_code", status.as_u16()),
            Summary::Text(error) => self.span.record("error.message", error),
        };
        let why = match result {
            Ok(_) if outcome == Outcome::Success => "replied".into(),
            Ok(reply) => reply.summary().to_string().into(),
            Err(error) => error.to_string().into(),
        };
        self.decided(outcome, why);
    }

    #[cold]
    fn cancelled(&mut self) {
        let late = self.summary.as_ref().is_some_and(|summary| summary.deadline.has_passed());
        let outcome = if late { Outcome::Unknown } else { Outcome::Cancelled };
        self.shared.attempts[outcome as usize].increment(1);
        let why = if late { "dropped at its deadline" } else { "dropped before its deadline" };
        self.decided(outcome, why.into());
    }

    fn decided(&mut self, outcome: Outcome, why: Cow<'static, str>) {
        self.open = false;
        self.span.record("outcome", outcome.as_str());
        let peer = Some(&*self.shared.peer);
        let endpoint = self.endpoint.take();
        let level = Level::Debug;
        Decided { layer: "attempt", action: outcome.as_str(), why, peer, endpoint, level }
            .record(self.summary.as_ref());
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if self.open {
            self.cancelled();
        }
    }
}

impl<F, R, E> Future for AttemptFuture<F, R>
where
    F: Future<Output = Result<R, E>>,
    R: HasOutcome,
    E: Into<CallError>,
{
    type Output = Result<Classified<R>, CallError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let call = this.call.as_pin_mut().expect("only drop takes it out");
        let entered = this.note.span.enter();
        let result = ready!(call.poll(cx)).map_err(Into::into);
        let result = match this.reader {
            Some(reader) => result.and_then(|reply| reader.read(reply)),
            None => result,
        };
        let result = result.map(Classified::read);
        drop(entered);
        this.note.finished(&result);
        Poll::Ready(result)
    }
}
