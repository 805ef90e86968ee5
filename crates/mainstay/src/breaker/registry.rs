//! The breakers of one dependency, one for each endpoint, and the handles for operators.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use http::Uri;
use serde::Serialize;
use tokio::sync::watch;

use super::cell::{Cell, Settings};
use super::core::{Order, nanos};
use super::{BreakerConfig, BreakerState, Permit};
use crate::config_error::{Check, ConfigError, PEER};
use crate::random::Random;
use crate::{CallError, Endpoint, RequestContext};

/// The breakers of one dependency. Clones share them, and so do layers and services made from one handle.
#[derive(Debug, Clone)]
pub struct Breakers(Arc<PeerBreakers>);

#[derive(Debug)]
pub(crate) struct PeerBreakers {
    settings: Arc<Settings>,
    /// The endpoint name for requests whose URI has no host.
    fallback: Endpoint,
    cells: RwLock<HashMap<Box<str>, Arc<Cell>>>,
}

/// One breaker's state and counts at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BreakerSnapshot {
    /// The endpoint, `host:port`.
    pub name: String,
    /// Name of the dependency.
    pub peer: String,
    /// The state that the next call would find.
    pub state: BreakerState,
    /// Milliseconds until the breaker admits a probe; zero unless open.
    pub open_for_ms: u64,
    /// Calls in the window.
    pub calls: u64,
    /// Failed calls in the window.
    pub failures: u64,
    /// Slow calls in the window.
    pub slow_calls: u64,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Times the breaker has opened without an operator's order since it was created.
    pub trips: u64,
}

impl Breakers {
    /// An empty registry for the dependency `peer`. Install the metrics recorder first: each breaker looks up its
    /// gauges once, when it is created.
    pub fn new(peer: &str, config: BreakerConfig, random: Random) -> Result<Self, ConfigError> {
        let fallback = Endpoint::parse(peer);
        let mut check = Check::default();
        check.that(fallback.is_some(), "peer", &peer, PEER);
        check.part(config.validate());
        check.finish()?;
        let fallback = fallback.expect("checked above");
        let settings =
            Arc::new(Settings { peer: peer.into(), slow_nanos: nanos(config.slow_call), config, random });
        Ok(Self(Arc::new(PeerBreakers { settings, fallback, cells: RwLock::default() })))
    }

    /// A weak reference, for a registry that observes the breakers without keeping them alive.
    pub(crate) fn downgrade(&self) -> Weak<PeerBreakers> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn from_peer(shared: Arc<PeerBreakers>) -> Self {
        Self(shared)
    }

    /// Name of the dependency.
    pub fn peer(&self) -> &str {
        &self.0.settings.peer
    }

    /// Sets the gauges of every breaker to the state that a caller would find now. Transitions set them too, but a wait or a
    /// ramp ends without a call: without this the gauge of an idle breaker stays at `open` or `ramping`. Call it every
    /// second or so.
    pub fn refresh_gauges(&self) {
        self.cells().iter().for_each(|cell| cell.refresh());
    }

    fn cells(&self) -> Vec<Arc<Cell>> {
        self.0.cells.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Snapshots of every breaker, sorted by name.
    pub fn list(&self) -> Vec<BreakerSnapshot> {
        let mut list: Vec<_> = self.cells().iter().map(|cell| cell.snapshot()).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// The breaker of the endpoint `name`. `None` until a call or [`Breakers::endpoint`] has created it.
    pub fn get(&self, name: &str) -> Option<BreakerHandle> {
        let cells = self.0.cells.read().unwrap_or_else(PoisonError::into_inner);
        cells.get(name).cloned().map(BreakerHandle)
    }

    /// The breaker of this endpoint, created closed if there is none yet. Use it to observe or force a breaker before
    /// its first call.
    pub fn endpoint(&self, endpoint: &Endpoint) -> BreakerHandle {
        BreakerHandle(self.cell(endpoint))
    }

    pub(super) fn of(&self, uri: Option<&Uri>) -> Arc<Cell> {
        match uri.and_then(Endpoint::of) {
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
        if cells.len() >= self.0.settings.config.max_endpoints {
            evict_one(&mut cells);
        }
        let cell = Arc::new(Cell::new(endpoint.clone(), &self.0.settings));
        cells.insert(endpoint.as_str().into(), Arc::clone(&cell));
        cell
    }
}

/// Evicts one breaker to make room for a new one.
fn evict_one(cells: &mut HashMap<Box<str>, Arc<Cell>>) {
    let least = cells.iter().min_by_key(|(_, cell)| cell.worth()).map(|(name, _)| name.clone());
    if let Some(cell) = least.and_then(|name| cells.remove(&name)) {
        cell.retire();
    }
}

/// A handle to one endpoint's breaker. Clones refer to the same breaker.
#[derive(Debug, Clone)]
pub struct BreakerHandle(Arc<Cell>);

impl BreakerHandle {
    /// The state that the next call would find. An open breaker whose wait is over shows as half-open before that
    /// call comes.
    pub fn state(&self) -> BreakerState {
        self.0.state()
    }

    /// State and counts at this moment.
    pub fn snapshot(&self) -> BreakerSnapshot {
        self.0.snapshot()
    }

    /// A receiver for changes of state. It sees the changes that calls and operators make. The end of an open
    /// breaker's wait is not a change; the next call makes one.
    pub fn subscribe(&self) -> watch::Receiver<BreakerState> {
        self.0.subscribe()
    }

    /// Refuses every call until [`BreakerHandle::reset`]. Calls in flight continue; their results do not count.
    pub fn force_open(&self) {
        self.0.order(Order::ForceOpen);
    }

    /// Admits every call, whatever its result, until [`BreakerHandle::reset`].
    pub fn force_closed(&self) {
        self.0.order(Order::ForceClosed);
    }

    /// Closes the breaker, empties the window and forgets earlier trips.
    pub fn reset(&self) {
        self.0.order(Order::Reset);
    }

    /// A permit for one call that is not made through the tower service. A permit that is dropped without
    /// [`Permit::finish`] counts as a call whose caller left. A probe that is held for longer than twice
    /// `probe_timeout` counts as failed when the next call arrives, so end calls in time.
    pub fn try_acquire(&self, context: Option<&RequestContext>) -> Result<Permit, CallError> {
        Permit::acquire(&self.0, context)
    }
}
