//! One call with its attempts, as a named state machine.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::Service;

use super::backoff;
use super::service::{Again, GiveUp, Plan, Shared, Template};
use crate::classify::{HasOutcome, outcome};
use crate::{CallError, Outcome, RequestContext, clock};

pin_project! {
    /// A call in progress: an attempt, or the wait before the next one. Dropping it drops the attempt and costs
    /// nothing more.
    #[derive(Debug)]
    pub struct RetryFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S::Future, S>,
        again: Arc<Again<S>>,
        // The parts from which later attempts are built; `None` when the request cannot be repeated.
        template: Option<Template<B>>,
        plan: Plan,
        // Number of the current or next attempt, from 1.
        attempt: u32,
        first_unknown: Option<u32>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F, S> {
        Calling {
            #[pin]
            call: F,
        },
        Waiting {
            #[pin]
            sleep: Sleep,
        },
        // A later attempt waits for the service to be ready. The first attempt uses the service that was ready.
        Readying {
            service: S,
        },
    }
}

impl<S, B> RetryFuture<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) fn new(
        call: S::Future,
        again: Arc<Again<S>>,
        template: Option<Template<B>>,
        plan: Plan,
    ) -> Self {
        Self { state: State::Calling { call }, again, template, plan, attempt: 1, first_unknown: None }
    }
}

impl<S, B> Future for RetryFuture<S, B>
where
    S: Service<Request<B>> + Clone,
    S::Response: HasOutcome,
    S::Error: Into<CallError>,
    B: Clone,
{
    type Output = Result<S::Response, CallError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let shared = &this.again.shared;
        loop {
            match this.state.as_mut().project() {
                StateProj::Calling { call } => {
                    let result = ready!(call.poll(cx)).map_err(Into::into);
                    let became = outcome(&result);
                    if matches!(became, Outcome::Success | Outcome::Refused) {
                        shared.deposit();
                        let settled = result.as_ref().is_ok_and(HasOutcome::settles_earlier);
                        let open = this.first_unknown.filter(|_| !settled);
                        return Poll::Ready(settle(result, became, this.plan, open, *this.attempt));
                    }
                    if became == Outcome::Unknown && this.first_unknown.is_none() {
                        *this.first_unknown = Some(*this.attempt);
                    }
                    let can = this.template.is_some();
                    let next = shared.after_failure(this.plan, can, *this.attempt, became, &result);
                    let Some(wait) = next else {
                        let whole = *this.attempt;
                        return Poll::Ready(settle(result, became, this.plan, *this.first_unknown, whole));
                    };
                    *this.attempt += 1;
                    this.state.set(State::Waiting { sleep: tokio::time::sleep(wait) });
                }
                StateProj::Waiting { sleep } => {
                    ready!(sleep.poll(cx));
                    let service = this.again.service.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    this.state.set(State::Readying { service });
                }
                StateProj::Readying { service } => {
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        let error: CallError = error.into();
                        let (became, made) = (error.outcome(), *this.attempt - 1);
                        return Poll::Ready(settle(Err(error), became, this.plan, *this.first_unknown, made));
                    }
                    let template = this.template.as_ref();
                    let template =
                        template.expect("after_failure begins a wait only when there is a template");
                    let mut request = template.request();
                    if let Some(context) = &this.plan.context {
                        let context = RequestContext { attempt: *this.attempt, ..context.clone() };
                        request.extensions_mut().insert(context);
                    }
                    let call = service.call(request);
                    this.state.set(State::Calling { call });
                }
            }
        }
    }
}

impl Shared {
    /// Decides what follows a failed attempt: the wait before the next one, or `None` to stop. The budget is checked
    /// last, so that only a retry that will be made is withdrawn from it.
    fn after_failure<R: HasOutcome>(
        &self,
        plan: &Plan,
        can: bool,
        attempt: u32,
        became: Outcome,
        result: &Result<R, CallError>,
    ) -> Option<Duration> {
        let mut context = plan.context.clone();
        if let Some(context) = &mut context {
            context.attempt = context.attempt.max(attempt);
        }
        let context = context.as_ref();
        match became {
            Outcome::FailedKnown | Outcome::Throttled => {}
            Outcome::Unknown if plan.safe || plan.keyed => {}
            Outcome::Unknown => {
                let why = "outcome unknown, and neither a safe method nor an idempotency key";
                self.gave_up(GiveUp::NotSafe, why.into(), context);
                return None;
            }
            Outcome::Success
            | Outcome::Refused
            | Outcome::ClientFault
            | Outcome::RejectedUnsent
            | Outcome::Cancelled => return None,
        }
        if plan.caller_retries {
            let why = "the caller retries already; only one layer retries";
            self.gave_up(GiveUp::CallerRetries, why.into(), context);
            return None;
        }
        let max = self.config.max_attempts;
        if !can || attempt >= max {
            self.gave_up(
                GiveUp::AttemptsUsed,
                format!("{became}, attempt {attempt} of {max}").into(),
                context,
            );
            return None;
        }
        let asked = match result {
            Ok(reply) => reply.retry_after(),
            Err(error) => error.retry_after(),
        };
        let wait = backoff::wait(attempt - 1, became, asked, &self.config, &self.random);
        let needed = wait.saturating_add(self.config.least_attempt_time);
        if let Some(left) = context.map(|context| context.deadline.remaining())
            && left < needed
        {
            let why = format!("{became}; {} ms left, {} ms needed", left.as_millis(), needed.as_millis());
            self.gave_up(GiveUp::DeadlineTooNear, why.into(), context);
            return None;
        }
        if let Err(spent) = self.withdraw(clock::now()) {
            self.gave_up(GiveUp::BudgetSpent, spent.to_string().into(), context);
            return None;
        }
        self.retries.increment(1);
        let summary = match result {
            Ok(reply) => reply.summary(),
            Err(error) => error.summary(),
        };
        let why = format!("{became} ({summary}); attempt {} in {} ms", attempt + 1, wait.as_millis());
        self.decided("retry", why.into(), context);
        Some(wait)
    }
}

/// The result for the caller when no attempt follows. A write that may have happened stays unknown, whatever the last
/// attempt reported of itself.
fn settle<R: HasOutcome>(
    result: Result<R, CallError>,
    became: Outcome,
    plan: &Plan,
    first_unknown: Option<u32>,
    attempts: u32,
) -> Result<R, CallError> {
    match first_unknown {
        Some(attempt) if !plan.safe && became != Outcome::Unknown => {
            let (last, retry_after) = match &result {
                Ok(reply) => (reply.summary(), reply.retry_after()),
                Err(error) => (error.summary(), error.retry_after()),
            };
            Err(CallError::EarlierAttemptUnknown { attempt, attempts, last, retry_after })
        }
        _ => result,
    }
}
