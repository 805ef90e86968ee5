//! The outermost layer: gives a call its context, measures it, and records its outcome.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::metric::{Counter, Histogram, counter, histogram};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::Service;

use crate::classify::Classified;
use crate::client_names as names;
use crate::clock::{self, Turn};
use crate::{CallError, Outcome, RepeatedWork, RequestContext};

#[derive(Debug)]
pub(super) struct CallMeters {
    peer: Arc<str>,
    total_timeout: Duration,
    requests: [Counter; Outcome::ALL.len()],
    repeats: [Counter; Outcome::ALL.len()],
    durations: [Histogram; Outcome::ALL.len()],
}

impl CallMeters {
    pub(super) fn new(peer: &str, total_timeout: Duration) -> Self {
        let name = || peer.to_owned();
        Self {
            peer: peer.into(),
            total_timeout,
            requests: Outcome::ALL
                .map(|outcome| counter!(names::REQUESTS, "peer" => name(), "outcome" => outcome.as_str())),
            repeats: Outcome::ALL
                .map(|outcome| counter!(names::REPEATS, "peer" => name(), "outcome" => outcome.as_str())),
            durations: Outcome::ALL
                .map(|outcome| histogram!(names::DURATION, "peer" => name(), "outcome" => outcome.as_str())),
        }
    }
}

/// Layer around the whole stack.
#[derive(Debug, Clone)]
pub(super) struct Entry<S> {
    pub(super) inner: S,
    pub(super) shared: Arc<CallMeters>,
}

impl<S, B, R> Service<Request<B>> for Entry<S>
where
    S: Service<Request<B>, Response = Classified<Response<R>>, Error = CallError>,
{
    type Response = Response<R>;
    type Error = CallError;
    type Future = EntryFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let turn = Turn::begin();
        let repeated = RepeatedWork::marks(&request);
        let measure = Some(Measure { shared: Arc::clone(&self.shared), began: turn.now, repeated });
        if request.uri().authority().is_none() {
            let error = CallError::InvalidRequest { reason: "the URI has no host" };
            return EntryFuture { state: State::Rejected { error: Some(error) }, measure };
        }
        if request.extensions().get::<RequestContext>().is_none() {
            let context = RequestContext::background(self.shared.total_timeout);
            request.extensions_mut().insert(context);
        }
        EntryFuture { state: State::Running { call: self.inner.call(request) }, measure }
    }
}

#[derive(Debug)]
struct Measure {
    shared: Arc<CallMeters>,
    began: Instant,
    repeated: bool,
}

impl Measure {
    /// Records the call. `now` is the instant of the turn in which the call ended. That leaves out the transport's
    /// own last step and saves one reading of the clock.
    fn finished(self, outcome: Outcome, now: Instant) {
        let took = now.saturating_duration_since(self.began);
        self.shared.requests[outcome as usize].increment(1);
        if self.repeated {
            self.shared.repeats[outcome as usize].increment(1);
        }
        self.shared.durations[outcome as usize].record(took.as_secs_f64());
        tracing::debug!(
            target: "mainstay::client",
            peer = &*self.shared.peer,
            outcome = outcome.as_str(),
            repeated = self.repeated,
            took_ms = took.as_secs_f64() * 1_000.0,
            "call finished",
        );
    }
}

pin_project! {
    /// A call through the whole stack.
    #[derive(Debug)]
    pub(super) struct EntryFuture<F> {
        #[pin]
        state: State<F>,
        measure: Option<Measure>,
    }

    impl<F> PinnedDrop for EntryFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(measure) = this.project().measure.take() {
                measure.finished(Outcome::Cancelled, clock::now());
            }
        }
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Rejected { error: Option<CallError> },
        Running {
            #[pin]
            call: F,
        },
    }
}

impl<F, R> Future for EntryFuture<F>
where
    F: Future<Output = Result<Classified<Response<R>>, CallError>>,
{
    type Output = Result<Response<R>, CallError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let turn = Turn::begin();
        let result = match this.state.project() {
            StateProj::Rejected { error } => {
                Err(error.take().expect("a future is not polled after it is ready"))
            }
            StateProj::Running { call } => ready!(call.poll(cx)),
        };
        if let Some(measure) = this.measure.take() {
            measure.finished(crate::classify::outcome(&result), turn.now);
        }
        Poll::Ready(result.map(|classified| classified.reply))
    }
}
