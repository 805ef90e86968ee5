//! The hedging layer, its service, and the state that its calls share.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::metric::{Counter, counter};
use http::Request;
use tower::{Layer, Service};

use super::HedgeConfig;
use super::future::{HedgeFuture, Race};
use super::latency::Latencies;
use crate::budget::RetryBudget;
use crate::classify::HasOutcome;
use crate::client_names as names;
use crate::config_error::ConfigError;
use crate::decision::{Decided, Level};
use crate::{CallError, RepeatedWork, RequestContext, clock};

#[derive(Debug)]
pub(super) struct Pacing {
    peer: Arc<str>,
    config: HedgeConfig,
    latencies: Mutex<Latencies>,
    pub(super) budget: RetryBudget,
    pub(super) hedges: Counter,
    pub(super) wins: Counter,
    pub(super) denied: Counter,
}

impl Pacing {
    pub(super) fn record(&self, took: Duration) {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).record(clock::now(), took);
    }

    /// Delay before the second request; `None` while there are too few samples.
    fn delay(&self) -> Option<Duration> {
        let HedgeConfig { percentile, least_delay, min_samples, .. } = self.config;
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        let usual = latencies.percentile(clock::now(), percentile, min_samples)?;
        Some(usual.max(least_delay))
    }

    pub(super) fn decided(&self, action: &'static str, why: String, context: Option<&RequestContext>) {
        let peer = Some(&*self.peer);
        Decided { layer: "hedge", action, why, peer, endpoint: None, level: Level::Info }.record(context);
    }
}

/// Layer that sends slow reads a second time.
#[derive(Debug, Clone)]
pub struct HedgeLayer(Option<Arc<Pacing>>);

impl HedgeLayer {
    /// A layer for calls to `peer`. Each hedge is withdrawn from `budget`, which a retry layer shares.
    pub fn new(peer: &str, config: HedgeConfig, budget: RetryBudget) -> Result<Self, ConfigError> {
        config.validate()?;
        let name = || peer.to_owned();
        Ok(Self(Some(Arc::new(Pacing {
            peer: peer.into(),
            latencies: Mutex::new(Latencies::new(config.span, clock::now())),
            config,
            budget,
            hedges: counter!(names::HEDGES, "peer" => name()),
            wins: counter!(names::HEDGE_WINS, "peer" => name()),
            denied: counter!(names::HEDGES_DENIED, "peer" => name()),
        }))))
    }

    /// A layer that does not hedge and costs nothing.
    pub fn off() -> Self {
        Self(None)
    }
}

impl<S: Clone> Layer<S> for HedgeLayer {
    type Service = Hedge<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Hedge { inner, shared: self.0.clone() }
    }
}

/// The service of [`HedgeLayer`].
#[derive(Debug, Clone)]
pub struct Hedge<S> {
    inner: S,
    shared: Option<Arc<Pacing>>,
}

impl<S, B> Service<Request<B>> for Hedge<S>
where
    S: Service<Request<B>> + Clone,
    S::Response: HasOutcome,
    S::Error: Into<CallError>,
    B: Clone,
{
    type Response = S::Response;
    type Error = CallError;
    type Future = HedgeFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(shared) = &self.shared else {
            return HedgeFuture::new(self.inner.call(request), None);
        };
        // A repeat is neither hedged nor timed: it may fail or be slow because of its own work, which shows little
        // about usual reads.
        let race = (request.method().is_safe() && !RepeatedWork::marks(&request)).then(|| {
            let caller_retries = request.extensions().get::<RequestContext>().is_some_and(|c| c.attempt > 1);
            let delay = shared.delay().filter(|_| !caller_retries);
            // Without a delay the read is only timed, so that later reads have a delay.
            let again = delay.map(|delay| (delay, self.inner.clone(), request.clone()));
            Box::pin(Race::new(Arc::clone(shared), again))
        });
        HedgeFuture::new(self.inner.call(request), race)
    }
}
