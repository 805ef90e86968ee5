//! The decision after a failed attempt, and the state that all calls through one layer share.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::metric::{Counter, Gauge, counter, gauge};
use tokio::time::Instant;

use super::repeat::Repeatable;
use super::{RetryConfig, backoff};
use crate::budget::RetryBudget;
use crate::client_names as names;
use crate::decision::{Decided, Level};
use crate::random::Random;
use crate::{Outcome, RequestContext, clock};

/// Settings, budget and counters that all calls through one layer share.
#[derive(Debug)]
pub(super) struct Rules {
    peer: Arc<str>,
    pub(super) config: RetryConfig,
    budget: RetryBudget,
    random: Random,
    retries: Counter,
    tokens: Gauge,
    /// The second, counted from the budget's creation, in which the gauge was last set; zero for never.
    shown: AtomicU64,
    given_up: [Counter; GiveUp::ALL.len()],
}

/// The reason why a failed attempt was the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GiveUp {
    CallerRetries,
    NotSafe,
    AttemptsUsed,
    DeadlineTooNear,
    BudgetSpent,
}

impl GiveUp {
    const ALL: [Self; 5] =
        [Self::CallerRetries, Self::NotSafe, Self::AttemptsUsed, Self::DeadlineTooNear, Self::BudgetSpent];

    const fn as_str(self) -> &'static str {
        match self {
            Self::CallerRetries => "caller-retries",
            Self::NotSafe => "not-safe",
            Self::AttemptsUsed => "attempts-used",
            Self::DeadlineTooNear => "deadline-too-near",
            Self::BudgetSpent => "budget-spent",
        }
    }
}

/// Facts about a request that are read before its first attempt.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) context: Option<RequestContext>,
    pub(super) caller_retries: bool,
    pub(super) repeatable: Repeatable,
}

/// A failed attempt.
pub(super) struct Failed<'a> {
    /// Number of the attempt, from 1.
    pub(super) attempt: u32,
    pub(super) outcome: Outcome,
    /// Time to wait, as the peer asks.
    pub(super) retry_after: Option<Duration>,
    /// The result in words, built only for a retry.
    pub(super) summary: &'a dyn Fn() -> String,
}

impl Rules {
    pub(super) fn new(peer: &str, config: RetryConfig, budget: RetryBudget, random: Random) -> Self {
        let name = || peer.to_owned();
        Self {
            peer: peer.into(),
            config,
            budget,
            random,
            retries: counter!(names::RETRIES, "peer" => name()),
            shown: AtomicU64::new(0),
            tokens: gauge!(names::RETRY_BUDGET, "peer" => name()),
            given_up: GiveUp::ALL
                .map(|why| counter!(names::RETRY_GIVEN_UP, "peer" => name(), "reason" => why.as_str())),
        }
    }

    /// Decides what follows a failed attempt: the wait before the next one, or `None` to stop. The budget is checked
    /// last, so that only a retry that will be made is withdrawn from it.
    pub(super) fn after_failure(&self, plan: &Plan, failed: &Failed<'_>) -> Option<Duration> {
        let Failed { attempt, outcome, retry_after, summary } = *failed;
        let mut context = plan.context.clone();
        if let Some(context) = &mut context {
            context.attempt = context.attempt.max(attempt);
        }
        let context = context.as_ref();
        match (outcome, plan.repeatable) {
            (Outcome::FailedKnown | Outcome::Throttled, _)
            | (Outcome::Unknown, Repeatable::Safe | Repeatable::WithKey) => {}
            (Outcome::Unknown, Repeatable::OnlyUnexecuted) => {
                let why = "outcome unknown, and neither a safe method nor an idempotency key";
                return self.gave_up(GiveUp::NotSafe, why.into(), context);
            }
            (
                Outcome::Success
                | Outcome::Refused
                | Outcome::ClientFault
                | Outcome::RejectedUnsent
                | Outcome::Cancelled,
                _,
            ) => return None,
        }
        if plan.caller_retries {
            let why = "the caller retries already; only one layer retries";
            return self.gave_up(GiveUp::CallerRetries, why.into(), context);
        }
        let max = self.config.max_attempts;
        if attempt >= max {
            let why = format!("{outcome}, attempt {attempt} of {max}");
            return self.gave_up(GiveUp::AttemptsUsed, why.into(), context);
        }
        let wait = backoff::wait(attempt - 1, outcome, retry_after, &self.config, &self.random);
        let needed = wait.saturating_add(self.config.least_attempt_time);
        if let Some(left) = context.map(|context| context.deadline.remaining())
            && left < needed
        {
            let why = format!("{outcome}; {} ms left, {} ms needed", left.as_millis(), needed.as_millis());
            return self.gave_up(GiveUp::DeadlineTooNear, why.into(), context);
        }
        if let Err(spent) = self.withdraw(clock::now()) {
            return self.gave_up(GiveUp::BudgetSpent, spent.to_string().into(), context);
        }
        self.retries.increment(1);
        let why = format!("{outcome} ({}); attempt {} in {} ms", summary(), attempt + 1, wait.as_millis());
        self.decided("retry", why.into(), context);
        Some(wait)
    }

    pub(super) fn deposit(&self) {
        let now = clock::now();
        let second = self.budget.deposit_in_second(now);
        if self.shown.load(Ordering::Relaxed) != second {
            self.shown.store(second, Ordering::Relaxed);
            self.show(now);
        }
    }

    #[allow(clippy::cast_precision_loss)] // far below 2^52
    fn show(&self, now: Instant) {
        self.tokens.set(self.budget.available(now) as f64);
    }

    /// Withdraws a retry from the budget and sets the gauge to the remaining amount.
    fn withdraw(&self, now: Instant) -> Result<(), crate::budget::BudgetSpent> {
        let taken = self.budget.withdraw(now);
        self.show(now);
        taken
    }

    fn decided(&self, action: &'static str, why: Cow<'static, str>, context: Option<&RequestContext>) {
        let level = Level::Info;
        Decided { layer: "retry", action, why, peer: Some(&self.peer), endpoint: None, level }
            .record(context);
    }

    #[cold]
    fn gave_up(
        &self,
        why: GiveUp,
        text: Cow<'static, str>,
        context: Option<&RequestContext>,
    ) -> Option<Duration> {
        self.given_up[why as usize].increment(1);
        self.decided("give_up", text, context);
        None
    }
}
