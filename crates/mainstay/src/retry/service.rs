//! The tower layer and what its calls share.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::Request;
use metrics::{Counter, Gauge, counter, gauge};
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{RetryConfig, RetryFuture};
use crate::budget::RetryBudget;
use crate::classify::HasOutcome;
use crate::client::names;
use crate::clock::nanos_since;
use crate::config_error::ConfigError;
use crate::decision::{Decided, Loudness};
use crate::headers::IDEMPOTENCY_KEY;
use crate::random::Random;
use crate::{CallError, RequestContext, clock};

/// What every call through one layer shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) peer: Arc<str>,
    pub(super) config: RetryConfig,
    pub(super) budget: RetryBudget,
    pub(super) random: Random,
    pub(super) retries: Counter,
    tokens: Gauge,
    /// The second in which the gauge was last set, counted from `base`.
    shown: AtomicU64,
    base: Instant,
    given_up: [Counter; GiveUp::ALL.len()],
}

/// Why an attempt that failed was the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GiveUp {
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

/// Tries again what may be tried again.
#[derive(Debug, Clone)]
pub struct RetryLayer(Arc<Shared>);

impl RetryLayer {
    /// Retries calls to `peer`, paid for from `budget`, which may be shared with a hedging layer.
    pub fn new(
        peer: &str,
        config: RetryConfig,
        budget: RetryBudget,
        random: Random,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let name = || peer.to_owned();
        let shared = Shared {
            peer: peer.into(),
            config,
            budget,
            random,
            retries: counter!(names::RETRIES, "peer" => name()),
            shown: AtomicU64::new(0),
            base: clock::now(),
            tokens: gauge!(names::RETRY_BUDGET, "peer" => name()),
            given_up: GiveUp::ALL
                .map(|why| counter!(names::RETRY_GIVEN_UP, "peer" => name(), "reason" => why.as_str())),
        };
        Ok(Self(Arc::new(shared)))
    }
}

impl<S: Clone> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let spare = Arc::new(Mutex::new(inner.clone()));
        Retry { inner, spare, shared: Arc::clone(&self.0) }
    }
}

/// See [`RetryLayer`].
#[derive(Debug, Clone)]
pub struct Retry<S> {
    inner: S,
    /// Copied by a call that has to try again; the many that have not pay for one reference only.
    spare: Arc<Mutex<S>>,
    shared: Arc<Shared>,
}

impl<S, B> Service<Request<B>> for Retry<S>
where
    S: Service<Request<B>> + Clone,
    S::Response: HasOutcome,
    S::Error: Into<CallError>,
    B: Clone,
{
    type Response = S::Response;
    type Error = CallError;
    type Future = RetryFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = request.extensions().get::<RequestContext>().cloned();
        let caller_retries = context.as_ref().is_some_and(|context| context.attempt > 1);
        let template = (!caller_retries && self.shared.config.max_attempts > 1)
            .then(|| template(&request, context.is_some()));
        let safe = request.method().is_safe();
        let keyed = request.headers().get(IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty());
        let plan = Plan { context, caller_retries, safe, keyed };
        let call = self.inner.call(request);
        RetryFuture::new(call, Arc::clone(&self.spare), template, plan, Arc::clone(&self.shared))
    }
}

/// What later attempts are copied from. Each gets the context of its own attempt, so a context that is alone among the
/// extensions need not be copied.
fn template<B: Clone>(request: &Request<B>, has_context: bool) -> Request<B> {
    if request.extensions().len() > usize::from(has_context) {
        return request.clone();
    }
    let mut template = Request::new(request.body().clone());
    request.method().clone_into(template.method_mut());
    request.uri().clone_into(template.uri_mut());
    request.headers().clone_into(template.headers_mut());
    *template.version_mut() = request.version();
    template
}

/// What is known of a request before its first attempt.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) context: Option<RequestContext>,
    pub(super) caller_retries: bool,
    pub(super) safe: bool,
    pub(super) keyed: bool,
}

impl Shared {
    pub(super) fn deposit(&self) {
        let now = clock::now();
        self.budget.deposit(now);
        let second = nanos_since(self.base, now) / 1_000_000_000 + 1;
        if self.shown.load(Ordering::Relaxed) != second {
            self.shown.store(second, Ordering::Relaxed);
            self.show(now);
        }
    }

    #[allow(clippy::cast_precision_loss)] // far below 2^52
    fn show(&self, now: Instant) {
        self.tokens.set(self.budget.available(now) as f64);
    }

    /// Takes a retry from the budget; the gauge then shows what is left.
    pub(super) fn withdraw(&self, now: Instant) -> Result<(), crate::budget::BudgetSpent> {
        let taken = self.budget.withdraw(now);
        self.show(now);
        taken
    }

    #[cold]
    pub(super) fn decided(
        &self,
        action: &'static str,
        why: Cow<'static, str>,
        context: Option<&RequestContext>,
    ) {
        let loudness = Loudness::Info;
        Decided { layer: "retry", action, why, peer: Some(&self.peer), endpoint: None, loudness }
            .record(context);
    }

    pub(super) fn gave_up(&self, why: GiveUp, text: Cow<'static, str>, context: Option<&RequestContext>) {
        self.given_up[why as usize].increment(1);
        self.decided("give_up", text, context);
    }
}
