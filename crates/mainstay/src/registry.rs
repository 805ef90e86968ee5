//! A list of everything in a process that may refuse a request or a call: each live breaker, limiter, quota,
//! bulkhead, throttle and budget, with its state. It is for an admin page, where a responder asks "what is holding
//! this back?".
//!
//! The registry observes its entries and does not keep them alive: an entry that is no longer used leaves the list.
//! Nothing is counted or stored for the list. Reading it takes each limiter's lock for a short time; calls wait for
//! it at no other time.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use mainstay::client::{self, ClientConfig, ClientRequest};
//! use mainstay::server::{self, ServerConfig};
//! use mainstay::{CallError, Registry};
//! use tower::service_fn;
//!
//! let registry = Registry::default();
//! let server = server::stack(ServerConfig::default())?;
//! registry.server("public", &server);
//! let transport = service_fn(|_: ClientRequest| async { Ok::<_, CallError>(Response::new(Bytes::new())) });
//! let client = client::stack(ClientConfig::new("inventory"), transport)?;
//! registry.client(&client);
//!
//! let all = registry.snapshot();
//! assert_eq!((all.limiters[0].name.as_str(), all.limiters[0].state.limit), ("public", 64));
//! assert_eq!((all.bulkheads[0].name.as_str(), all.bulkheads[0].state.in_flight), ("inventory", 0));
//! drop(client);
//! assert!(registry.snapshot().bulkheads.is_empty());
//! # Ok::<(), mainstay::ConfigError>(())
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::Serialize;

use crate::breaker::{BreakerHandle, BreakerSnapshot, Breakers};
use crate::budget::{self, BudgetSnapshot, RetryBudget};
use crate::bulkhead::{self, BulkheadLayer, BulkheadSnapshot};
use crate::client::ClientStack;
use crate::limit::{Limiter, LimiterSnapshot};
use crate::server::rate_limit::{self, RateLimitLayer};
use crate::server::{RateLimitSnapshot, ServerStack};
use crate::throttle::{self, ThrottleLayer, ThrottleSnapshot};

/// List of registered parts. Clones are one list. A part that is registered twice is listed twice.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Watched>>);

/// The registered parts that are still in use, in the order of registration. They are read one after the other, so
/// under load they may differ by a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegistrySnapshot {
    /// Concurrency limits and their queues.
    pub limiters: Vec<Named<LimiterSnapshot>>,
    /// Quotas of principals.
    pub quotas: Vec<Named<RateLimitSnapshot>>,
    /// Circuit breakers, one for each endpoint called so far.
    pub breakers: Vec<BreakerSnapshot>,
    /// Limits of the calls to a dependency.
    pub bulkheads: Vec<Named<BulkheadSnapshot>>,
    /// Throttles of calls to a dependency that sheds.
    pub throttles: Vec<Named<ThrottleSnapshot>>,
    /// Retry budgets.
    pub budgets: Vec<Named<BudgetSnapshot>>,
}

/// A state with the name of a listener or a dependency.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Named<T> {
    /// The name of the registration.
    pub name: String,
    /// The state.
    #[serde(flatten)]
    pub state: T,
}

#[derive(Default)]
struct Watched {
    limiters: Live<Named<LimiterSnapshot>>,
    quotas: Live<Named<RateLimitSnapshot>>,
    breakers: Live<Breakers>,
    bulkheads: Live<Named<BulkheadSnapshot>>,
    throttles: Live<Named<ThrottleSnapshot>>,
    budgets: Live<Named<BudgetSnapshot>>,
}

impl Registry {
    /// Registers the limiter and the quotas of a server stack as `name`.
    pub fn server(&self, name: &str, stack: &ServerStack) {
        self.limiter(name, &stack.limiter());
        self.quotas(name, stack.quotas());
    }

    /// Registers the breakers, bulkhead, throttle and retry budget of a client stack under its dependency's name.
    pub fn client<T>(&self, stack: &ClientStack<T>) {
        let peer = stack.breakers().peer();
        self.breakers(stack.breakers());
        self.bulkhead(peer, stack.bulkhead());
        self.throttle(peer, stack.throttle());
        self.budget(peer, stack.budget());
    }

    /// Registers a limiter that is used alone.
    pub fn limiter(&self, name: &str, limiter: &Arc<Limiter>) {
        let weak = Arc::downgrade(limiter);
        self.lock().limiters.watch(named(name, weak, Limiter::snapshot));
    }

    /// Registers quotas that are used alone; a layer without quotas adds nothing.
    pub fn quotas(&self, name: &str, layer: &RateLimitLayer) {
        if let Some(weak) = layer.downgrade() {
            self.lock().quotas.watch(named(name, weak, rate_limit::Quota::snapshot));
        }
    }

    /// Registers breakers that are used alone.
    pub fn breakers(&self, breakers: &Breakers) {
        let weak = breakers.downgrade();
        self.lock().breakers.watch(Box::new(move || weak.upgrade().map(Breakers::from_peer)));
    }

    /// Registers a bulkhead that is used alone.
    pub fn bulkhead(&self, name: &str, layer: &BulkheadLayer) {
        self.lock().bulkheads.watch(named(name, layer.downgrade(), bulkhead::Limit::snapshot));
    }

    /// Registers a throttle that is used alone.
    pub fn throttle(&self, name: &str, layer: &ThrottleLayer) {
        self.lock().throttles.watch(named(name, layer.downgrade(), throttle::State::snapshot));
    }

    /// Registers a retry budget that is used alone.
    pub fn budget(&self, name: &str, budget: &RetryBudget) {
        self.lock().budgets.watch(named(name, budget.downgrade(), budget::Core::snapshot));
    }

    /// The state of every part now.
    pub fn snapshot(&self) -> RegistrySnapshot {
        let mut watched = self.lock();
        RegistrySnapshot {
            limiters: watched.limiters.list(),
            quotas: watched.quotas.list(),
            breakers: watched.breakers.list().iter().flat_map(Breakers::list).collect(),
            bulkheads: watched.bulkheads.list(),
            throttles: watched.throttles.list(),
            budgets: watched.budgets.list(),
        }
    }

    /// The breaker of this endpoint (`host:port`), of any dependency; the first registered, if there are several.
    pub fn breaker(&self, endpoint: &str) -> Option<BreakerHandle> {
        self.lock().breakers.list().iter().find_map(|breakers| breakers.get(endpoint))
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.snapshot()).finish()
    }
}

/// Reads one part; `None` once it is no longer used.
type Watch<T> = Box<dyn Fn() -> Option<T> + Send + Sync>;

fn named<A, T>(name: &str, weak: Weak<A>, look: fn(&A) -> T) -> Watch<Named<T>>
where
    A: Send + Sync + 'static,
    T: 'static,
{
    let name = name.to_owned();
    Box::new(move || weak.upgrade().map(|alive| Named { name: name.clone(), state: look(&alive) }))
}

/// Parts of one kind.
struct Live<T>(Vec<Watch<T>>);

impl<T> Default for Live<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Live<T> {
    /// Adds one part and removes those that are gone, so that a process that builds stacks for ever does not grow.
    fn watch(&mut self, watch: Watch<T>) {
        self.list();
        self.0.push(watch);
    }

    fn list(&mut self) -> Vec<T> {
        let mut list = Vec::with_capacity(self.0.len());
        self.0.retain(|watch| watch().map(|state| list.push(state)).is_some());
        list
    }
}
