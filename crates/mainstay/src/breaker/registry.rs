//! The breakers of one dependency, by endpoint, and the handles an operator works them with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::Uri;
use metrics::{Counter, Gauge, counter, gauge};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::core::{Admitted, Core, Order, Rejected, Transition, Verdict};
use super::{BreakerConfig, BreakerState, Permit};
use crate::config_error::ConfigError;
use crate::decision::{Decided, Loudness};
use crate::random::Random;
use crate::{CallError, Endpoint, RequestContext, clock};

/// The breakers of one dependency. Clones share them; so do the layers and services made from one handle.
#[derive(Debug, Clone)]
pub struct Breakers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    peer: Arc<str>,
    /// Names the breaker of requests whose URI has no host.
    fallback: Endpoint,
    config: BreakerConfig,
    random: Random,
    cells: RwLock<HashMap<Box<str>, Arc<Cell>>>,
}

/// One endpoint's breaker with its name, its watchers and its gauges.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) endpoint: Endpoint,
    shared: Arc<Settings>,
    core: Core,
    state: watch::Sender<BreakerState>,
    gauges: [Gauge; BreakerState::ALL.len()],
    transitions: [Counter; BreakerState::ALL.len()],
    rejected: Counter,
    /// Publishing is ordered, so that the last state published is the last one reached.
    publishing: Mutex<()>,
    /// The second of the core's life in which a call last ended.
    used: AtomicU64,
    evicted: AtomicBool,
}

#[derive(Debug)]
struct Settings {
    peer: Arc<str>,
    config: BreakerConfig,
    random: Random,
}

/// One breaker as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BreakerSnapshot {
    /// The endpoint, `host:port`.
    pub name: String,
    /// The dependency it belongs to.
    pub peer: String,
    /// What a caller would find now.
    pub state: BreakerState,
    /// Milliseconds until it lets a probe through; zero unless open.
    pub open_for_ms: u64,
    /// Calls counted in the window.
    pub calls: u64,
    /// Failures among them.
    pub failures: u64,
    /// Slow calls among them.
    pub slow_calls: u64,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Times it has opened by itself since the process began.
    pub trips: u64,
}

impl Breakers {
    /// An empty registry for the dependency `peer`. Install the metrics recorder first: gauges are looked up
    /// once for each endpoint.
    pub fn new(peer: &str, config: BreakerConfig, random: Random) -> Result<Self, ConfigError> {
        config.validate()?;
        let fallback = Endpoint::parse(peer)
            .ok_or(ConfigError { field: "peer", range: "1 to 64 characters of A-Za-z0-9._-" })?;
        Ok(Self(Arc::new(Shared { peer: peer.into(), fallback, config, random, cells: RwLock::default() })))
    }

    /// The dependency's name.
    pub fn peer(&self) -> &str {
        &self.0.peer
    }

    /// Every breaker, by name.
    pub fn list(&self) -> Vec<BreakerSnapshot> {
        let cells: Vec<_> =
            self.0.cells.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut list: Vec<_> = cells.iter().map(|cell| cell.snapshot()).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// The breaker of this endpoint, once a call has gone there (or [`Breakers::endpoint`] has named it).
    pub fn get(&self, name: &str) -> Option<BreakerHandle> {
        let cells = self.0.cells.read().unwrap_or_else(PoisonError::into_inner);
        cells.get(name).cloned().map(BreakerHandle)
    }

    /// The breaker of this endpoint, made closed if there is none yet: for watching or forcing one before its first
    /// call.
    pub fn endpoint(&self, endpoint: &Endpoint) -> BreakerHandle {
        BreakerHandle(self.cell(endpoint))
    }

    pub(super) fn of(&self, uri: &Uri) -> Arc<Cell> {
        match Endpoint::of(uri) {
            Some(endpoint) => self.cell(&endpoint),
            None => self.cell(&self.0.fallback),
        }
    }

    fn cell(&self, endpoint: &Endpoint) -> Arc<Cell> {
        if let Some(cell) = self.0.cells.read().unwrap_or_else(PoisonError::into_inner).get(endpoint.as_str())
        {
            return Arc::clone(cell);
        }
        let mut cells = self.0.cells.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = cells.get(endpoint.as_str()) {
            return Arc::clone(cell);
        }
        if cells.len() >= self.0.config.max_endpoints {
            evict_one(&mut cells);
        }
        let cell = Arc::new(Cell::new(endpoint.clone(), &self.0));
        cells.insert(endpoint.as_str().into(), Arc::clone(&cell));
        cell
    }
}

/// Removes the least recently used breaker, preferring closed ones: what is known of a sick endpoint, or ordered by an
/// operator, is worth more.
fn evict_one(cells: &mut HashMap<Box<str>, Arc<Cell>>) {
    let now = clock::now();
    let oldest = cells.iter().min_by_key(|(_, cell)| {
        let rank = match cell.core.state(now, &cell.shared.config) {
            BreakerState::Closed => 0,
            BreakerState::Ramping | BreakerState::HalfOpen | BreakerState::Open => 1,
            BreakerState::ForcedOpen | BreakerState::ForcedClosed => 2,
        };
        let idle = cell.core.second(now).saturating_sub(cell.used.load(Ordering::Relaxed));
        (rank, std::cmp::Reverse(idle))
    });
    let Some(name) = oldest.map(|(name, _)| name.clone()) else { return };
    if let Some(cell) = cells.remove(&name) {
        cell.evicted.store(true, Ordering::Relaxed);
        for gauge in &cell.gauges {
            gauge.set(0.0);
        }
    }
}

impl Cell {
    fn new(endpoint: Endpoint, shared: &Shared) -> Self {
        let (peer, name) = (shared.peer.to_string(), endpoint.to_string());
        let gauges = BreakerState::ALL.map(|state| {
            gauge!("mainstay_breaker_state", "peer" => peer.clone(), "endpoint" => name.clone(), "state" => state.as_str())
        });
        let transitions = BreakerState::ALL.map(|state| {
            counter!("mainstay_breaker_transitions_total", "peer" => peer.clone(), "endpoint" => name.clone(), "to" => state.as_str())
        });
        let rejected = counter!("mainstay_client_rejected_total", "peer" => peer.clone(), "reason" => "breaker_rejected");
        let settings = Settings {
            peer: Arc::clone(&shared.peer),
            config: shared.config.clone(),
            random: shared.random.clone(),
        };
        let cell = Self {
            endpoint,
            core: Core::new(&shared.config, clock::now()),
            shared: Arc::new(settings),
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

    /// Whether this breaker still is the one for `uri`.
    pub(super) fn serves(&self, uri: &Uri) -> bool {
        !self.evicted.load(Ordering::Relaxed) && self.endpoint.is_of(uri)
    }

    pub(super) fn config(&self) -> &BreakerConfig {
        &self.shared.config
    }

    #[inline]
    pub(super) fn admit(&self, context: Option<&RequestContext>) -> Result<Admitted, CallError> {
        match self.core.admit_closed() {
            Some(admitted) => Ok(admitted),
            None => self.admit_slowly(context),
        }
    }

    fn admit_slowly(&self, context: Option<&RequestContext>) -> Result<Admitted, CallError> {
        let (admitted, transition) = self.core.admit(clock::now(), &self.shared.config);
        if let Some(transition) = transition {
            self.publish(transition, context);
        }
        admitted.map_err(|rejected| self.reject(rejected, context))
    }

    #[cold]
    fn reject(&self, rejected: Rejected, context: Option<&RequestContext>) -> CallError {
        self.rejected.increment(1);
        let Rejected { state, open_for } = rejected;
        Decided {
            layer: "circuit_breaker",
            action: "reject",
            why: match state {
                BreakerState::Open => format!("open for another {} ms", open_for.as_millis()).into(),
                BreakerState::HalfOpen => "half-open, every probe is taken".into(),
                BreakerState::Ramping => "ramping, this call's share is used".into(),
                BreakerState::ForcedOpen => "forced open by an operator".into(),
                BreakerState::Closed | BreakerState::ForcedClosed => "closed".into(),
            },
            peer: &self.shared.peer,
            endpoint: Some(&self.endpoint),
            loudness: Loudness::Info,
        }
        .record(context);
        CallError::BreakerRejected { endpoint: self.endpoint.clone(), state, open_for }
    }

    #[inline]
    pub(super) fn record(
        &self,
        admitted: Admitted,
        verdict: Verdict,
        took: Duration,
        now: Instant,
        context: Option<&RequestContext>,
    ) {
        let config = &self.shared.config;
        let slow = took >= config.slow_call;
        let second = self.core.second(now);
        if second != self.used.load(Ordering::Relaxed) {
            self.used.store(second, Ordering::Relaxed);
        }
        if let Some(transition) = self.core.record(admitted, verdict, slow, now, config, &self.shared.random)
        {
            self.publish(transition, context);
        }
    }

    #[cold]
    fn publish(&self, transition: Transition, context: Option<&RequestContext>) {
        let Transition { from, to, why } = transition;
        {
            let _one_at_a_time = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
            let state = self.core.state(clock::now(), &self.shared.config);
            self.state.send_replace(state);
            self.show(state);
        }
        self.transitions[to as usize].increment(1);
        Decided {
            layer: "circuit_breaker",
            action: to.as_str(),
            why: format!("was {from}: {why}").into(),
            peer: &self.shared.peer,
            endpoint: Some(&self.endpoint),
            loudness: Loudness::Warn,
        }
        .record(context);
    }

    /// One-hot: exactly one of the states reads 1.
    fn show(&self, state: BreakerState) {
        for (each, gauge) in BreakerState::ALL.iter().zip(&self.gauges) {
            gauge.set(if *each == state { 1.0 } else { 0.0 });
        }
    }

    fn snapshot(&self) -> BreakerSnapshot {
        let view = self.core.view(clock::now(), &self.shared.config);
        BreakerSnapshot {
            name: self.endpoint.to_string(),
            peer: self.shared.peer.to_string(),
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

/// One endpoint's breaker. Clones work the same one.
#[derive(Debug, Clone)]
pub struct BreakerHandle(Arc<Cell>);

impl BreakerHandle {
    /// What a caller would find now. An open breaker whose wait is over shows as half-open, even before a call comes.
    pub fn state(&self) -> BreakerState {
        self.0.core.state(clock::now(), &self.0.shared.config)
    }

    /// The breaker as it stands.
    pub fn snapshot(&self) -> BreakerSnapshot {
        self.0.snapshot()
    }

    /// Follows the state. A receiver sees the changes that calls and operators make; that an open breaker's wait is
    /// over changes nothing until a call comes.
    pub fn subscribe(&self) -> watch::Receiver<BreakerState> {
        self.0.state.subscribe()
    }

    /// Lets nothing through until [`BreakerHandle::reset`]. Calls in flight go on; their results do not count.
    pub fn force_open(&self) {
        self.order(Order::ForceOpen);
    }

    /// Lets everything through, whatever comes back, until [`BreakerHandle::reset`].
    pub fn force_closed(&self) {
        self.order(Order::ForceClosed);
    }

    /// Closed, with an empty window and no memory of earlier trips.
    pub fn reset(&self) {
        self.order(Order::Reset);
    }

    fn order(&self, order: Order) {
        let transition = self.0.core.order(order);
        self.0.publish(transition, None);
    }

    /// Leave for one call that is not made through the tower service. Dropping the permit without
    /// [`Permit::finish`] records a call whose caller left.
    pub fn try_acquire(&self, context: Option<&RequestContext>) -> Result<Permit, CallError> {
        let mut permit = Permit::acquire(&self.0, context)?;
        permit.begin();
        Ok(permit)
    }
}
