//! One endpoint's breaker: the state machine with its name, its subscribers and its metrics.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::metric::{Counter, Gauge, counter, gauge};
use http::Uri;
use tokio::sync::watch;
use tokio::time::Instant;

use super::core::{Admitted, Core, Ended, Order, Rejected, Transition, Verdict};
use super::{BreakerConfig, BreakerSnapshot, BreakerState};
use crate::client_names as names;
use crate::clock::nanos_since;
use crate::context::RequestSummary;
use crate::decision::{Decided, HasRequestIdentity, Level};
use crate::random::Random;
use crate::{CallError, Endpoint, RequestContext, clock};

/// The breaker of one endpoint, with its name, its subscribers and its metrics.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) endpoint: Endpoint,
    /// The endpoint's name in logs and decisions.
    name: Cow<'static, str>,
    settings: Arc<Settings>,
    /// The start of the breaker's clock: the core counts nanoseconds from here.
    base: Instant,
    core: Core,
    state: watch::Sender<BreakerState>,
    gauges: [Gauge; BreakerState::ALL.len()],
    transitions: [Counter; BreakerState::ALL.len()],
    rejected: Counter,
    /// Lock for publishing, so that the last state published is the last state reached.
    publishing: Mutex<()>,
    /// The second, counted from `base`, in which a call last ended.
    used: AtomicU64,
    evicted: AtomicBool,
}

/// Settings and random source that the breakers of one dependency share.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) peer: Arc<str>,
    pub(super) config: BreakerConfig,
    pub(super) random: Random,
    /// `config.slow_call` in nanoseconds.
    pub(super) slow_nanos: u64,
}

impl Cell {
    pub(super) fn new(endpoint: Endpoint, settings: &Arc<Settings>) -> Self {
        let (peer, name) = (settings.peer.to_string(), endpoint.to_string());
        let gauges = BreakerState::ALL.map(|state| {
            gauge!(names::BREAKER_STATE, "peer" => peer.clone(), "endpoint" => name.clone(), "state" => state.as_str())
        });
        let transitions = BreakerState::ALL.map(|state| {
            counter!(names::BREAKER_TRANSITIONS, "peer" => peer.clone(), "endpoint" => name.clone(), "to" => state.as_str())
        });
        let rejected = counter!(names::REJECTED, "peer" => peer.clone(), "reason" => "breaker-rejected");
        let cell = Self {
            name: endpoint.name(),
            endpoint,
            base: Instant::now(),
            core: Core::new(&settings.config),
            settings: Arc::clone(settings),
            state: watch::Sender::new(BreakerState::Closed),
            gauges,
            transitions,
            rejected,
            publishing: Mutex::default(),
            used: AtomicU64::new(0),
            evicted: AtomicBool::new(false),
        };
        cell.show(BreakerState::Closed);
        cell
    }

    /// Whether this breaker is still in use for the endpoint of `uri`. Calls without a URI share the breaker
    /// that has the peer's name.
    pub(super) fn serves(&self, uri: Option<&Uri>) -> bool {
        let is_of = match uri {
            Some(uri) => self.endpoint.is_of(uri),
            None => self.endpoint.as_str() == &*self.settings.peer,
        };
        is_of && !self.evicted.load(Ordering::Relaxed)
    }

    /// Nanoseconds since `base`.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        nanos_since(self.base, clock::now())
    }

    /// The duration, in nanoseconds, from which a call counts as slow.
    pub(super) fn slow_nanos(&self) -> u64 {
        self.settings.slow_nanos
    }

    pub(super) fn config(&self) -> &BreakerConfig {
        &self.settings.config
    }

    #[inline]
    pub(super) fn admit(
        &self,
        context: Option<&RequestContext>,
        repeated: bool,
        is_hedge: impl FnOnce() -> bool,
    ) -> Result<Admitted, CallError> {
        match self.core.admit_closed(repeated) {
            Some(admitted) => Ok(admitted),
            None => self.admit_slowly(context, repeated, is_hedge()),
        }
    }

    fn admit_slowly(
        &self,
        context: Option<&RequestContext>,
        repeated: bool,
        is_hedge: bool,
    ) -> Result<Admitted, CallError> {
        let Settings { config, random, .. } = &*self.settings;
        if is_hedge && self.state() == BreakerState::HalfOpen {
            // The hedge drops one of two probes for the same read; the dropped one would take a probe from another
            // call.
            let rejected = Rejected { state: BreakerState::HalfOpen, open_for: Duration::ZERO };
            return Err(self.reject(rejected, context));
        }
        let (admitted, transition) = self.core.admit(repeated, self.now(), config, random);
        if let Some(transition) = transition {
            self.publish(transition, context);
        }
        admitted.map_err(|rejected| self.reject(rejected, context))
    }

    #[cold]
    fn reject(&self, rejected: Rejected, context: Option<&RequestContext>) -> CallError {
        self.rejected.increment(1);
        Decided {
            layer: "circuit_breaker",
            action: "reject",
            why: rejected,
            peer: Some(&self.settings.peer),
            endpoint: Some(self.name.clone()),
            level: Level::Info,
        }
        .record(context);
        let Rejected { state, open_for } = rejected;
        CallError::BreakerRejected { endpoint: self.endpoint.clone(), state, open_for }
    }

    #[inline]
    pub(super) fn record(
        &self,
        admitted: Admitted,
        verdict: Verdict,
        took_nanos: u64,
        now: u64,
        summary: Option<&RequestSummary>,
    ) {
        let config = &self.settings.config;
        let ended = Ended { verdict, took: took_nanos, is_slow: took_nanos >= self.settings.slow_nanos };
        let second = now / 1_000_000_000;
        if second != self.used.load(Ordering::Relaxed) {
            self.used.store(second, Ordering::Relaxed);
        }
        if let Some(transition) = self.core.record(admitted, ended, now, config, &self.settings.random) {
            self.publish(transition, summary);
        }
    }

    #[cold]
    fn publish(&self, transition: Transition, summary: Option<&impl HasRequestIdentity>) {
        let Transition { from, to, why } = transition;
        {
            let _one_at_a_time = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
            let state = self.core.state(self.now(), &self.settings.config);
            self.state.send_replace(state);
            self.show(state);
        }
        self.transitions[to as usize].increment(1);
        Decided {
            layer: "circuit_breaker",
            action: to.as_str(),
            why: format!("was {from}: {why}"),
            peer: Some(&self.settings.peer),
            endpoint: Some(self.name.clone()),
            level: Level::Warn,
        }
        .record(summary);
    }

    pub(super) fn order(&self, order: Order) {
        let transition = self.core.order(order, self.now());
        self.publish(transition, None::<&RequestSummary>);
    }

    pub(super) fn state(&self) -> BreakerState {
        self.core.state(self.now(), &self.settings.config)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<BreakerState> {
        self.state.subscribe()
    }

    /// Eviction order: the breaker with the lowest value is evicted first. A breaker that is not closed, or that an
    /// operator forced, holds knowledge that costs more to lose than a closed breaker's, however long it has been
    /// idle.
    pub(super) fn worth(&self) -> (u8, u64) {
        let rank = match self.state() {
            BreakerState::Closed => 0,
            BreakerState::Ramping | BreakerState::HalfOpen | BreakerState::Open => 1,
            BreakerState::ForcedOpen | BreakerState::ForcedClosed => 2,
        };
        let idle = (self.now() / 1_000_000_000).saturating_sub(self.used.load(Ordering::Relaxed));
        (rank, u64::MAX - idle)
    }

    /// Sets the gauges to the state that a caller would find now: a wait or a ramp ends without a call.
    pub(super) fn refresh(&self) {
        let _one_at_a_time = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.evicted.load(Ordering::Relaxed) {
            self.show(self.state());
        }
    }

    /// Marks this breaker as evicted and sets its gauges to zero.
    pub(super) fn retire(&self) {
        let _one_at_a_time = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        self.evicted.store(true, Ordering::Relaxed);
        for gauge in &self.gauges {
            gauge.set(0.0);
        }
    }

    /// Sets the gauges one-hot: exactly one state reads 1.
    fn show(&self, state: BreakerState) {
        for (each, gauge) in BreakerState::ALL.iter().zip(&self.gauges) {
            gauge.set(if *each == state { 1.0 } else { 0.0 });
        }
    }

    pub(super) fn snapshot(&self) -> BreakerSnapshot {
        let view = self.core.view(self.now(), &self.settings.config);
        BreakerSnapshot {
            name: self.endpoint.to_string(),
            peer: self.settings.peer.to_string(),
            state: view.state,
            open_for_ms: u64::try_from(view.open_for.as_millis()).unwrap_or(u64::MAX),
            calls: view.calls,
            failures: view.failures,
            slow_calls: view.slow,
            consecutive_failures: view.consecutive_failures,
            trips: view.trips,
        }
    }
}
