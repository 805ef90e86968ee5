//! One call with its attempts, as a named state machine.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::Service;

use super::repeat::{Repeat, Repeatable};
use super::rules::{Failed, Plan};
use super::service::Again;
use crate::classify::{Classify, ReadRequest};
use crate::{CallError, Outcome, RequestContext};

pin_project! {
    /// A call in progress: an attempt, or the wait before the next one. Dropping it drops the attempt and costs
    /// nothing more.
    #[derive(Debug)]
    pub struct RetryFuture<S, C, P, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S::Future, S>,
        again: Arc<Again<S, C, P>>,
        // The request from which later attempts are copied; `None` when it is not sent again.
        copy: Option<Req>,
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

impl<S, C, P, Req> RetryFuture<S, C, P, Req>
where
    S: Service<Req>,
{
    pub(super) fn new(call: S::Future, again: Arc<Again<S, C, P>>, copy: Option<Req>, plan: Plan) -> Self {
        Self { state: State::Calling { call }, again, copy, plan, attempt: 1, first_unknown: None }
    }
}

impl<S, C, P, Req> Future for RetryFuture<S, C, P, Req>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error> + ReadRequest<Req>,
    P: Repeat<Req>,
{
    type Output = Result<S::Response, C::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (rules, classify) = (this.again.rules(), this.again.classify());
        loop {
            match this.state.as_mut().project() {
                StateProj::Calling { call } => {
                    let result = ready!(call.poll(cx)).map_err(|error| classify.inner(error));
                    let outcome = classify.outcome(&result);
                    let attempt = *this.attempt;
                    if matches!(outcome, Outcome::Success | Outcome::Refused) {
                        rules.deposit();
                        let settled = result.as_ref().is_ok_and(|reply| classify.settles_earlier(reply));
                        let open = this.first_unknown.filter(|_| !settled);
                        return Poll::Ready(settle(classify, result, outcome, this.plan, open, attempt));
                    }
                    if outcome == Outcome::Unknown && this.first_unknown.is_none() {
                        *this.first_unknown = Some(attempt);
                    }
                    let failed = Failed {
                        attempt,
                        outcome,
                        retry_after: classify.retry_after(&result),
                        summary: &|| classify.summary(&result).to_string(),
                    };
                    let Some(wait) = rules.after_failure(this.plan, &failed) else {
                        let open = *this.first_unknown;
                        return Poll::Ready(settle(classify, result, outcome, this.plan, open, attempt));
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
                        let result = Err(classify.inner(error));
                        let (outcome, made) = (classify.outcome(&result), *this.attempt - 1);
                        let open = *this.first_unknown;
                        return Poll::Ready(settle(classify, result, outcome, this.plan, open, made));
                    }
                    let copy = this.copy.as_ref();
                    let copy =
                        copy.expect("a call that has no copy is not retried: `after_failure` sees why");
                    let mut request = this.again.repeat().copy(copy);
                    if let Some(context) = &this.plan.context {
                        let context = RequestContext { attempt: *this.attempt, ..context.clone() };
                        classify.set_context(&mut request, context);
                    }
                    let call = service.call(request);
                    this.state.set(State::Calling { call });
                }
            }
        }
    }
}

/// The result for the caller when no attempt follows. A write that may have happened stays unknown, whatever the last
/// attempt reported of itself.
fn settle<C, R, E>(
    classify: &C,
    result: Result<R, C::Error>,
    outcome: Outcome,
    plan: &Plan,
    first_unknown: Option<u32>,
    attempts: u32,
) -> Result<R, C::Error>
where
    C: Classify<R, E>,
{
    match first_unknown {
        Some(attempt) if plan.repeatable != Repeatable::Safe && outcome != Outcome::Unknown => {
            let (last, retry_after) = (classify.summary(&result), classify.retry_after(&result));
            Err(classify.rejected(CallError::EarlierAttemptUnknown { attempt, attempts, last, retry_after }))
        }
        _ => result,
    }
}
