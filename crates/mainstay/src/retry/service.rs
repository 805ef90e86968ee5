//! The retry layer, its service, and the state that its calls share.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Extensions, HeaderMap, Method, Request, Uri, Version};
use metrics::{Counter, Gauge, counter, gauge};
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{RetryConfig, RetryFuture};
use crate::budget::RetryBudget;
use crate::classify::HasOutcome;
use crate::client::names;
use crate::config_error::ConfigError;
use crate::decision::{Decided, Level};
use crate::headers::IDEMPOTENCY_KEY;
use crate::random::Random;
use crate::{CallError, RepeatedWork, RequestContext, clock};

/// State that all calls through one layer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) peer: Arc<str>,
    pub(super) config: RetryConfig,
    pub(super) budget: RetryBudget,
    pub(super) random: Random,
    pub(super) retries: Counter,
    tokens: Gauge,
    /// The second, counted from the budget's creation, in which the gauge was last set; zero for never.
    shown: AtomicU64,
    given_up: [Counter; GiveUp::ALL.len()],
}

/// The reason why a failed attempt was the last.
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

/// Layer that retries calls which may be retried.
#[derive(Debug, Clone)]
pub struct RetryLayer(Arc<Shared>);

impl RetryLayer {
    /// Retries calls to `peer`. Each retry is withdrawn from `budget`, which a hedging layer may share. A request
    /// without a [`RequestContext`] has no deadline of its own: without a [total deadline](crate::total_deadline)
    /// outside this layer, the retry waits for as long as the peer asks in `Retry-After`, at most a day.
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
        let again = Arc::new(Again { shared: Arc::clone(&self.0), service: Mutex::new(inner.clone()) });
        Retry { inner, again }
    }
}

/// The service of [`RetryLayer`].
#[derive(Debug, Clone)]
pub struct Retry<S> {
    inner: S,
    again: Arc<Again<S>>,
}

/// State that a call needs for a retry, behind one reference, so that the many calls without a retry pay for one
/// reference only.
#[derive(Debug)]
pub(super) struct Again<S> {
    pub(super) shared: Arc<Shared>,
    /// The service that each retry clones.
    pub(super) service: Mutex<S>,
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
        let context = request.extensions().get::<RequestContext>();
        let caller_retries =
            context.is_some_and(|context| context.attempt > 1) || RepeatedWork::marks(&request);
        let template = (!caller_retries && self.again.shared.config.max_attempts > 1)
            .then(|| Template::of(&request, context.is_some()));
        let safe = request.method().is_safe();
        let keyed = request.headers().get(IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty());
        let plan = Plan { context: context.cloned(), caller_retries, safe, keyed };
        RetryFuture::new(self.inner.call(request), Arc::clone(&self.again), template, plan)
    }
}

/// Parts of the request from which later attempts are built. They are kept apart, because a whole request would first
/// be filled with defaults.
#[derive(Debug)]
pub(super) struct Template<B> {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    extensions: Extensions,
    body: B,
}

impl<B: Clone> Template<B> {
    /// Each attempt gets its own context, so the context is not copied when it is the only extension.
    fn of(request: &Request<B>, has_context: bool) -> Self {
        let context_only = request.extensions().len() <= usize::from(has_context);
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            extensions: if context_only { Extensions::new() } else { request.extensions().clone() },
            body: request.body().clone(),
        }
    }

    pub(super) fn request(&self) -> Request<B> {
        let mut request = Request::new(self.body.clone());
        request.method_mut().clone_from(&self.method);
        request.uri_mut().clone_from(&self.uri);
        *request.version_mut() = self.version;
        request.headers_mut().clone_from(&self.headers);
        request.extensions_mut().clone_from(&self.extensions);
        request
    }
}

/// Facts about a request that are read before its first attempt.
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
        let level = Level::Info;
        Decided { layer: "retry", action, why, peer: Some(&self.peer), endpoint: None, level }
            .record(context);
    }

    pub(super) fn gave_up(&self, why: GiveUp, text: Cow<'static, str>, context: Option<&RequestContext>) {
        self.given_up[why as usize].increment(1);
        self.decided("give_up", text, context);
    }
}
