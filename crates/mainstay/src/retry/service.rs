//! The retry layer and its service.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::repeat::{HttpRepeat, OnlyUnexecuted, Repeat};
use super::rules::{Plan, Rules};
use super::{RetryConfig, RetryFuture};
use crate::budget::RetryBudget;
use crate::builder::Builder;
use crate::classify::{Classify, Http, Plain, ReadRequest};
use crate::config_error::ConfigError;
use crate::random::Random;

/// Layer that retries calls which may be retried: `C` reads their results, and `P` decides which requests may be sent
/// again.
#[derive(Debug, Clone)]
pub struct RetryLayer<C = Http, P = HttpRepeat> {
    rules: Arc<Rules>,
    classify: C,
    repeat: P,
}

impl RetryLayer {
    /// Retries HTTP calls to `peer`. Each retry is withdrawn from `budget`, which a hedging layer may share. A request
    /// without a [`RequestContext`](crate::RequestContext) has no deadline of its own: without a
    /// [total deadline](crate::total_deadline) outside this layer, the retry waits for as long as the peer asks in
    /// `Retry-After`, at most a day.
    pub fn new(
        peer: &str,
        config: RetryConfig,
        budget: RetryBudget,
        random: Random,
    ) -> Result<Self, ConfigError> {
        Ok(RetryLayer::classified(peer, config, budget, random, Http)?.repeat(HttpRepeat))
    }

    /// A layer for any service. Without further settings it has the defaults of [`RetryConfig`] and a budget of its
    /// own.
    pub fn builder(peer: &str) -> Builder<RetryConfig, Plain> {
        Builder::new(peer)
    }
}

impl<C> RetryLayer<C, OnlyUnexecuted> {
    /// A layer that reads requests and results by `classify`, and repeats calls that certainly had no effect.
    pub fn classified(
        peer: &str,
        config: RetryConfig,
        budget: RetryBudget,
        random: Random,
        classify: C,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let rules = Arc::new(Rules::new(peer, config, budget, random));
        Ok(Self { rules, classify, repeat: OnlyUnexecuted })
    }
}

impl<C, P> RetryLayer<C, P> {
    /// The same layer, where `repeat` decides which requests may be sent again when the effect of an attempt is
    /// unknown.
    pub fn repeat<Q>(self, repeat: Q) -> RetryLayer<C, Q> {
        RetryLayer { rules: self.rules, classify: self.classify, repeat }
    }
}

impl<C> Builder<RetryConfig, C> {
    /// The layer with a budget of its own. It repeats calls that certainly had no effect; see
    /// [`RetryLayer::repeat`]. Fails when a setting is out of its range.
    pub fn build(self) -> Result<RetryLayer<C, OnlyUnexecuted>, ConfigError> {
        let budget = RetryBudget::new(&self.config.budget)?;
        RetryLayer::classified(&self.peer, self.config, budget, self.random, self.classify)
    }
}

impl<S: Clone, C: Clone, P: Clone> Layer<S> for RetryLayer<C, P> {
    type Service = Retry<S, C, P>;

    fn layer(&self, inner: S) -> Self::Service {
        let service = Mutex::new(inner.clone());
        Retry { inner, again: Arc::new(Again { layer: self.clone(), service }) }
    }
}

/// The service of [`RetryLayer`].
#[derive(Debug, Clone)]
pub struct Retry<S, C = Http, P = HttpRepeat> {
    inner: S,
    again: Arc<Again<S, C, P>>,
}

/// State that a call needs for a retry, behind one reference, so that the many calls without a retry pay for one
/// reference only.
#[derive(Debug)]
pub(super) struct Again<S, C, P> {
    layer: RetryLayer<C, P>,
    /// The service that each retry clones.
    pub(super) service: Mutex<S>,
}

impl<S, C, P> Again<S, C, P> {
    pub(super) fn rules(&self) -> &Rules {
        &self.layer.rules
    }

    pub(super) fn classify(&self) -> &C {
        &self.layer.classify
    }

    pub(super) fn repeat(&self) -> &P {
        &self.layer.repeat
    }
}

impl<S, C, P, Req> Service<Req> for Retry<S, C, P>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error> + ReadRequest<Req>,
    P: Repeat<Req>,
{
    type Response = S::Response;
    type Error = C::Error;
    type Future = RetryFuture<S, C, P, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(|error| self.again.classify().inner(error))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let again = &self.again;
        let context = again.classify().context(&request);
        let caller_retries =
            context.is_some_and(|context| context.attempt > 1) || again.classify().is_repeat(&request);
        let plan = Plan {
            context: context.cloned(),
            caller_retries,
            repeatable: again.repeat().repeatable(&request),
        };
        let copy =
            (!caller_retries && again.rules().config.max_attempts > 1).then(|| again.repeat().copy(&request));
        RetryFuture::new(self.inner.call(request), Arc::clone(again), copy, plan)
    }
}
