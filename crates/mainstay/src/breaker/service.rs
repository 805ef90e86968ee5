//! The breaker's tower layer, its service and its named future.

use std::future::Future;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::{Layer, Service};

use super::Breakers;
use super::cell::Cell;
use super::core::{Admitted, Verdict, nanos};
use crate::classify::{HasOutcome, outcome};
use crate::context::RequestSummary;
use crate::hedge::IsHedge;
use crate::{CallError, Deadline, Outcome, RepeatedWork, RequestContext, clock};

/// Layer that puts the breaker of each request's endpoint in front of a service.
#[derive(Debug, Clone)]
pub struct BreakerLayer(Breakers);

impl BreakerLayer {
    /// A layer that shares these breakers.
    pub fn new(breakers: Breakers) -> Self {
        Self(breakers)
    }
}

impl<S> Layer<S> for BreakerLayer {
    type Service = Breaker<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Breaker { inner, breakers: self.0.clone(), last: None }
    }
}

/// The service of [`BreakerLayer`].
#[derive(Debug, Clone)]
pub struct Breaker<S> {
    inner: S,
    breakers: Breakers,
    /// The breaker of the last call. Most clients call one endpoint, and comparing a name is cheaper than looking it
    /// up.
    last: Option<Arc<Cell>>,
}

impl<S, B> Service<Request<B>> for Breaker<S>
where
    S: Service<Request<B>>,
    S::Response: HasOutcome,
    S::Error: Into<CallError>,
{
    type Response = S::Response;
    type Error = CallError;
    type Future = BreakerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let cell = match &self.last {
            Some(cell) if cell.serves(request.uri()) => cell,
            _ => self.last.insert(self.breakers.of(request.uri())),
        };
        let context = request.extensions().get::<RequestContext>();
        let is_hedge = || request.extensions().get::<IsHedge>().is_some();
        let admitted = match cell.admit(context, RepeatedWork::marks(&request), is_hedge) {
            Ok(admitted) => admitted,
            Err(error) => return BreakerFuture { state: State::Rejected { error: Some(error) } },
        };
        let permit = Permit::new(cell, admitted, context);
        if admitted.probe {
            return self.probe(request, permit);
        }
        BreakerFuture { state: State::Running { call: self.inner.call(request), probe: None, permit } }
    }
}

impl<S> Breaker<S> {
    #[cold]
    fn probe<B>(&mut self, mut request: Request<B>, permit: Permit) -> BreakerFuture<S::Future>
    where
        S: Service<Request<B>>,
    {
        let until = clock::now() + permit.cell.config().probe_timeout;
        if let Some(context) = request.extensions_mut().get_mut::<RequestContext>() {
            context.deadline = context.deadline.earliest(Deadline::at(until));
        }
        let timer = Box::pin(tokio::time::sleep_until(until));
        let call = self.inner.call(request);
        BreakerFuture { state: State::Running { call, probe: Some(timer), permit } }
    }
}

pin_project! {
    /// The call with its permit. If it is dropped, the breaker counts a call whose caller left or whose deadline
    /// passed.
    #[derive(Debug)]
    pub struct BreakerFuture<F> {
        #[pin]
        state: State<F>,
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
            // Timeout of a probe. Other calls carry no timer.
            probe: Option<Pin<Box<Sleep>>>,
            permit: Permit,
        },
    }
}

impl<F, R, E> Future for BreakerFuture<F>
where
    F: Future<Output = Result<R, E>>,
    R: HasOutcome,
    E: Into<CallError>,
{
    type Output = Result<R, CallError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Rejected { error } => {
                Poll::Ready(Err(error.take().expect("a future is not polled after it is ready")))
            }
            StateProj::Running { call, probe, permit } => {
                // Poll the call before the timer: a reply that has arrived wins over a timer that has fired.
                let mut polled = call.poll(cx).map_err(Into::into);
                if polled.is_pending() {
                    let after = permit.waits();
                    let Some(timer) = probe else { return polled };
                    ready!(timer.as_mut().poll(cx));
                    polled = Poll::Ready(Err(CallError::AttemptTimedOut { after }));
                }
                // Read the result in place: taking it out and putting it back would move it twice.
                if let Poll::Ready(result) = &polled {
                    permit.count(outcome(result));
                }
                polled
            }
        }
    }
}

/// Permission for one call. It counts the call when it is finished or dropped.
#[derive(Debug)]
pub struct Permit {
    cell: Arc<Cell>,
    /// `None` once the call has counted.
    admitted: Option<Admitted>,
    /// Time at which the call first had to wait, in nanoseconds of the breaker's clock. A call that did not wait took no time
    /// and reads the clock once less.
    waiting_since: Option<NonZeroU64>,
    summary: Option<RequestSummary>,
}

impl Permit {
    #[inline]
    fn new(cell: &Arc<Cell>, admitted: Admitted, context: Option<&RequestContext>) -> Self {
        let (cell, summary) = (Arc::clone(cell), context.map(RequestSummary::from));
        Self { cell, admitted: Some(admitted), waiting_since: None, summary }
    }

    /// A permit whose duration starts now.
    pub(super) fn acquire(cell: &Arc<Cell>, context: Option<&RequestContext>) -> Result<Self, CallError> {
        let admitted = cell.admit(context, false, || false)?;
        let mut permit = Self::new(cell, admitted, context);
        permit.waits();
        Ok(permit)
    }

    /// Notes that the call has to wait, and returns how long it has waited.
    #[inline]
    fn waits(&mut self) -> Duration {
        let now = self.cell.now();
        let since = self.waiting_since.get_or_insert(NonZeroU64::new(now).unwrap_or(NonZeroU64::MIN));
        Duration::from_nanos(now.saturating_sub(since.get()))
    }

    /// Counts the call with its outcome. Its duration starts at the first poll that had to wait; for a permit from
    /// [`BreakerHandle::try_acquire`](super::BreakerHandle::try_acquire) it starts when the permit was taken.
    pub fn finish(mut self, outcome: Outcome) {
        self.count(outcome);
    }

    #[inline]
    fn count(&mut self, outcome: Outcome) {
        let Some(admitted) = self.admitted.take() else { return };
        let now = self.cell.now();
        let took = self.waiting_since.map_or(0, |since| now.saturating_sub(since.get()));
        let verdict = self.verdict(outcome, admitted.probe, took);
        self.cell.record(admitted, verdict, took, now, self.summary.as_ref());
    }
}

impl Permit {
    /// The effect of an outcome on the breaker.
    #[inline]
    fn verdict(&self, outcome: Outcome, probe: bool, took: u64) -> Verdict {
        match outcome {
            // A refusal is an answer too: it shows that the endpoint works.
            Outcome::Success | Outcome::Refused | Outcome::ClientFault => Verdict::Good,
            Outcome::RejectedUnsent => Verdict::Unsent,
            Outcome::Unknown if self.cut_short(probe, took) => Verdict::Left,
            Outcome::FailedKnown | Outcome::Unknown => Verdict::Bad,
            // A peer that sheds some calls still serves others, and an open breaker would stop those. As the answer
            // to a probe it shows that the peer has no room for full traffic yet.
            Outcome::Throttled if probe => Verdict::Bad,
            Outcome::Cancelled if probe && took >= self.enough(probe) => Verdict::Bad,
            Outcome::Throttled | Outcome::Cancelled => Verdict::Left,
        }
    }

    /// Whether the caller's own deadline ended the call before the endpoint had [enough](Self::enough) time. Such a
    /// call shows that the caller had little time, and shows nothing of the endpoint. If it counted, one impatient
    /// caller could open the breaker for all callers or keep it open.
    fn cut_short(&self, probe: bool, took: u64) -> bool {
        took < self.enough(probe)
            && self.summary.as_ref().is_some_and(|summary| summary.deadline.has_passed())
    }

    /// Time in nanoseconds after which a missing answer counts as the endpoint's failure: `probe_timeout` for a
    /// probe, `slow_call` for other calls.
    fn enough(&self, probe: bool) -> u64 {
        if probe { nanos(self.cell.config().probe_timeout) } else { self.cell.slow_nanos() }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.admitted.is_some() {
            // A call dropped at its deadline was too slow for its caller. A call dropped earlier only lost its
            // caller.
            let late = self.summary.as_ref().is_some_and(|summary| summary.deadline.has_passed());
            self.count(if late { Outcome::Unknown } else { Outcome::Cancelled });
        }
    }
}
