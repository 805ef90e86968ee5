//! The breakers of one dependency, by endpoint, and the handles an operator works them with.

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

/// The breakers of one dependency. Clones share them; so do the layers and services made from one handle.
#[derive(Debug, Clone)]
pub struct Breakers(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    settings: Arc<Settings>,
    /// Names the breaker of requests whose URI has no host.
    fallback: Endpoint,
    cells: RwLock<HashMap<Box<str>, Arc<Cell>>>,
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
        let fallback = Endpoint::parse(peer);
        let mut check = Check::default();
        check.that(fallback.is_some(), "peer", &peer, PEER);
        check.part(config.validate());
        check.finish()?;
        let fallback = fallback.expect("checked above");
        let settings =
            Arc::new(Settings { peer: peer.into(), slow_nanos: nanos(config.slow_call), config, random });
        Ok(Self(Arc::new(Shared { settings, fallback, cells: RwLock::default() })))
    }

    /// To watch them without keeping them.
    pub(crate) fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn from_shared(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The dependency's name.
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

    /// Every breaker, by name.
    pub fn list(&self) -> Vec<BreakerSnapshot> {
        let mut list: Vec<_> = self.cells().iter().map(|cell| cell.snapshot()).collect();
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
        if cells.len() >= self.0.settings.config.max_endpoints {
            evict_one(&mut cells);
        }
        let cell = Arc::new(Cell::new(endpoint.clone(), &self.0.settings));
        cells.insert(endpoint.as_str().into(), Arc::clone(&cell));
        cell
    }
}

/// Makes room for one more.
fn evict_one(cells: &mut HashMap<Box<str>, Arc<Cell>>) {
    let least = cells.iter().min_by_key(|(_, cell)| cell.worth()).map(|(name, _)| name.clone());
    if let Some(cell) = least.and_then(|name| cells.remove(&name)) {
        cell.retire();
    }
}

/// One endpoint's breaker. Clones work the same one.
#[derive(Debug, Clone)]
pub struct BreakerHandle(Arc<Cell>);

impl BreakerHandle {
    /// What a caller would find now. An open breaker whose wait is over shows as half-open, even before a call comes.
    pub fn state(&self) -> BreakerState {
        self.0.state()
    }

    /// The breaker as it stands.
    pub fn snapshot(&self) -> BreakerSnapshot {
        self.0.snapshot()
    }

    /// Follows the state. A receiver sees the changes that calls and operators make; that an open breaker's wait is
    /// over changes nothing until a call comes.
    pub fn subscribe(&self) -> watch::Receiver<BreakerState> {
        self.0.subscribe()
    }

    /// Lets nothing through until [`BreakerHandle::reset`]. Calls in flight go on; their results do not count.
    pub fn force_open(&self) {
        self.0.order(Order::ForceOpen);
    }

    /// Lets everything through, whatever comes back, until [`BreakerHandle::reset`].
    pub fn force_closed(&self) {
        self.0.order(Order::ForceClosed);
    }

    /// Closed, with an empty window and no memory of earlier trips.
    pub fn reset(&self) {
        self.0.order(Order::Reset);
    }

    /// Leave for one call that is not made through the tower service. Dropping the permit without
    /// [`Permit::finish`] records a call whose caller left. A probe that is kept for longer than twice `probe_timeout`
    /// counts as failed once another call asks: end your calls in time.
    pub fn try_acquire(&self, context: Option<&RequestContext>) -> Result<Permit, CallError> {
        Permit::acquire(&self.0, context)
    }
}
