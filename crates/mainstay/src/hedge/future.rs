//! One read, and a second one if the first is slow, as a named state machine.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower::Service;
use tower::util::Oneshot;

use super::service::Pacing;
use crate::classify::{HasOutcome, outcome};
use crate::context::IsHedge;
use crate::{CallError, Outcome, RequestContext, clock};

pin_project! {
    /// The first call, and the second one if there is one. Dropping it drops both.
    pub struct HedgeFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        first: First<S::Future>,
        // State that only a read that may be hedged carries.
        race: Option<Pin<Box<Race<S, B>>>>,
    }
}

pin_project! {
    #[project = FirstProj]
    #[derive(Debug)]
    enum First<F> {
        Running {
            #[pin]
            call: F,
        },
        Over,
    }
}

pin_project! {
    /// The clock of a read, and its second call.
    pub(super) struct Race<S, B>
    where
        S: Service<Request<B>>,
    {
        shared: Arc<Pacing>,
        began: Instant,
        #[pin]
        timer: Option<Sleep>,
        delay: Duration,
        again: Option<(S, Request<B>)>,
        #[pin]
        second: Option<Oneshot<S, Request<B>>>,
        // Result of the first call, if it failed while the second is in flight.
        failed: Option<Result<S::Response, CallError>>,
        timed: bool,
    }

    impl<S, B> PinnedDrop for Race<S, B>
    where
        S: Service<Request<B>>,
    {
        fn drop(this: Pin<&mut Self>) {
            // A caller that left before the delay shows its own patience, and nothing of how long reads take.
            let waited = clock::now().saturating_duration_since(this.began);
            let long = !this.delay.is_zero() && waited >= this.delay;
            this.time(long);
        }
    }
}

impl<S, B> Race<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) fn new(shared: Arc<Pacing>, again: Option<(Duration, S, Request<B>)>) -> Self {
        let (delay, again) = match again {
            Some((delay, service, request)) => (delay, Some((service, request))),
            None => (Duration::ZERO, None),
        };
        let began = clock::now();
        Self { shared, began, timer: None, delay, again, second: None, failed: None, timed: false }
    }

    /// Records, once, the first call's time to its answer, or its time so far when it was dropped.
    fn time(self: Pin<&mut Self>, answered: bool) {
        let this = self.project();
        if !std::mem::replace(this.timed, true) && answered {
            this.shared.record(clock::now().saturating_duration_since(*this.began));
        }
    }
}

/// Whether the outcome is a definite answer, so that waiting for another answer gains nothing.
fn settles(became: Outcome) -> bool {
    match became {
        Outcome::Success | Outcome::Refused | Outcome::ClientFault => true,
        Outcome::RejectedUnsent
        | Outcome::FailedKnown
        | Outcome::Unknown
        | Outcome::Throttled
        | Outcome::Cancelled => false,
    }
}

impl<S, B> Race<S, B>
where
    S: Service<Request<B>>,
    S::Response: HasOutcome,
    S::Error: Into<CallError>,
{
    /// Waits for the delay, makes the second call if the budget allows it, and waits for its result. Stays pending
    /// when there will be no second call.
    fn poll_second(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Response, CallError>> {
        if self.second.is_none() {
            if self.again.is_none() {
                return Poll::Pending;
            }
            let mut this = self.as_mut().project();
            if this.timer.is_none() {
                this.timer.set(Some(tokio::time::sleep_until(*this.began + *this.delay)));
            }
            ready!(this.timer.as_pin_mut().expect("set just above").poll(cx));
            self.as_mut().begin_second();
        }
        match self.project().second.as_pin_mut() {
            Some(second) => second.poll(cx).map_err(Into::into),
            None => Poll::Pending,
        }
    }

    fn begin_second(self: Pin<&mut Self>) {
        let mut this = self.project();
        let Some((service, mut request)) = this.again.take() else { return };
        if let Err(spent) = this.shared.budget.withdraw(clock::now()) {
            this.shared.denied.increment(1);
            this.shared.decided("give_up", spent.to_string(), request.extensions().get());
            return;
        }
        this.shared.hedges.increment(1);
        let why = format!("no answer after {} ms, slower than most reads", this.delay.as_millis());
        this.shared.decided("hedge", why, request.extensions().get());
        if let Some(context) = request.extensions_mut().get_mut::<RequestContext>() {
            context.attempt += 1;
        }
        request.extensions_mut().insert(IsHedge);
        this.second.set(Some(Oneshot::new(service, request)));
    }
}

impl<S, B> HedgeFuture<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) fn new(call: S::Future, race: Option<Pin<Box<Race<S, B>>>>) -> Self {
        Self { first: First::Running { call }, race }
    }
}

impl<S, B> std::fmt::Debug for HedgeFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HedgeFuture").field("hedged", &self.race.is_some()).finish_non_exhaustive()
    }
}

impl<S, B> Future for HedgeFuture<S, B>
where
    S: Service<Request<B>>,
    S::Response: HasOutcome,
    S::Error: Into<CallError>,
{
    type Output = Result<S::Response, CallError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let FirstProj::Running { call } = this.first.as_mut().project()
            && let Poll::Ready(result) = call.poll(cx)
        {
            let result = result.map_err(Into::into);
            this.first.set(First::Over);
            let Some(race) = this.race else { return Poll::Ready(result) };
            let answered = settles(outcome(&result));
            race.as_mut().time(answered);
            if race.second.is_none() || answered {
                *this.race = None;
                return Poll::Ready(result);
            }
            *race.as_mut().project().failed = Some(result);
        }
        let Some(race) = this.race else { return Poll::Pending };
        let second = ready!(race.as_mut().poll_second(cx));
        let won = settles(outcome(&second));
        if won {
            race.shared.wins.increment(1);
        } else if let FirstProj::Running { .. } = this.first.as_mut().project() {
            // The first call is still in flight and may succeed.
            race.as_mut().project().second.set(None);
            return Poll::Pending;
        }
        let first = race.as_mut().project().failed.take();
        *this.race = None;
        this.first.set(First::Over);
        Poll::Ready(match first {
            Some(first) if !won => first,
            _ => second,
        })
    }
}
