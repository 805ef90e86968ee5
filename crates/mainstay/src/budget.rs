//! The retry budget: retries and hedges may add at most a fixed share to the load of a dependency.
//!
//! Every definite answer of the peer is a deposit; every retry or hedge is a withdrawal. In any window the
//! withdrawals stay within `percent` of the deposits, counted in whole calls, plus a small floor with which a quiet
//! client can still retry. When every call to the peer fails there are no deposits and only the floor remains, so
//! that retries stop when they would do harm.
//!
//! A deposit is one atomic addition. A withdrawal is rare and takes a short mutex, so that two callers cannot both
//! take the last one.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::clock::nanos_since;
use crate::config_error::{Check, ConfigError};
use crate::settings::settings;
use crate::sync::{Mutex, lock};
use crate::window::{Counts, Window};

settings! {
    /// Settings of a retry budget.
    #[derive(Debug, Clone, PartialEq)]
    pub struct BudgetConfig {
        /// Retries and hedges for each hundred definite answers; 0 to 100. Default 10: with three layers at 10 % each,
        /// load grows at most 1.33 times; with three attempts and no budget it grows 27 times (Google SRE Book, "Handling
        /// Overload", uses the same share).
        pub percent: u32 = 10,
        /// Length of the window in which deposits count; 1 s to 10 min. Default 10 s, as Finagle.
        pub window: Duration = Duration::from_secs(10),
        /// Further retries per second that need no deposit; 0 to 1,000. Default 1: Finagle's 10 would double the load of
        /// a client that makes ten calls a second.
        pub floor_per_second: u32 = 1,
    }
}

impl BudgetConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let window = Duration::from_secs(1)..=Duration::from_mins(10);
        let mut check = Check::default();
        check.within("budget.percent", &self.percent, 0..=100, "0 to 100");
        check.within("budget.window", &self.window, window, "1 s to 10 min");
        check.within("budget.floor_per_second", &self.floor_per_second, 0..=1_000, "0 to 1,000");
        check.finish()
    }
}

/// The retry budget of one dependency. Clones share it.
///
/// ```
/// use mainstay::budget::{BudgetConfig, RetryBudget};
/// use tokio::time::Instant;
///
/// let budget = RetryBudget::new(&BudgetConfig::default())?;
/// let now = Instant::now();
/// for _ in 0..20 {
///     budget.deposit(now);
/// }
/// // 10 % of 20, and one from the floor.
/// assert_eq!((0..10).filter(|_| budget.withdraw(now).is_ok()).count(), 3);
/// # Ok::<(), mainstay::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RetryBudget(Arc<Core>);

/// Slots of the window: 100 ms each with the default window of 10 s.
const SLOTS: usize = if cfg!(loom) { 2 } else { 100 };

#[derive(Debug)]
pub(crate) struct Core {
    percent: u64,
    /// Time between two withdrawals from the floor; `None` when there is no floor.
    floor_every: Option<Duration>,
    /// `a` deposits, `b` withdrawals that deposits paid for.
    window: Window<SLOTS>,
    /// Earliest time of the next withdrawal from the floor.
    floor_from: Mutex<Instant>,
    base: Instant,
}

/// Error: the budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("retry budget spent: {spent} of {allowed} earned by {deposits} answers, floor used")]
pub struct BudgetSpent {
    /// Withdrawals in the window.
    pub spent: u64,
    /// Withdrawals that the deposits in the window allow.
    pub allowed: u64,
    /// Deposits in the window.
    pub deposits: u64,
}

/// A budget's counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BudgetSnapshot {
    /// Definite answers in the window.
    pub deposits: u64,
    /// Retries and hedges in the window that deposits paid for.
    pub spent: u64,
    /// Further retries and hedges that the deposits allow, without the floor.
    pub available: u64,
}

impl Core {
    pub(crate) fn new(config: &BudgetConfig, now: Instant) -> Self {
        Self {
            percent: u64::from(config.percent),
            floor_every: Duration::from_secs(1).checked_div(config.floor_per_second),
            window: Window::new(config.window),
            floor_from: Mutex::new(now),
            base: now,
        }
    }

    /// Counts a deposit and returns its time, as nanoseconds since the budget was created.
    pub(crate) fn deposit(&self, now: Instant) -> u64 {
        let at = nanos_since(self.base, now);
        self.window.add(at, Counts { a: 1, ..Counts::default() });
        at
    }

    pub(crate) fn snapshot(&self) -> BudgetSnapshot {
        let Counts { a: deposits, b: spent, .. } = self.window.sum(nanos_since(self.base, Instant::now()));
        BudgetSnapshot { deposits, spent, available: (deposits * self.percent / 100).saturating_sub(spent) }
    }

    pub(crate) fn withdraw(&self, now: Instant) -> Result<(), BudgetSpent> {
        let mut floor_from = lock(&self.floor_from);
        let at = nanos_since(self.base, now);
        let Counts { a: deposits, b: spent, .. } = self.window.sum(at);
        let allowed = deposits * self.percent / 100;
        if spent < allowed {
            self.window.add(at, Counts { b: 1, ..Counts::default() });
            return Ok(());
        }
        match self.floor_every {
            Some(every) if now >= *floor_from => {
                *floor_from = now + every;
                Ok(())
            }
            _ => Err(BudgetSpent { spent, allowed, deposits }),
        }
    }
}

impl RetryBudget {
    /// A budget without deposits.
    pub fn new(config: &BudgetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self(Arc::new(Core::new(config, Instant::now()))))
    }

    /// A weak reference, for a registry that observes the budget without keeping it alive.
    pub(crate) fn downgrade(&self) -> Weak<Core> {
        Arc::downgrade(&self.0)
    }

    /// Counts a definite answer of the peer.
    pub fn deposit(&self, now: Instant) {
        self.0.deposit(now);
    }

    /// Counts a deposit and returns its second since the budget was created, from 1.
    pub(crate) fn deposit_in_second(&self, now: Instant) -> u64 {
        self.0.deposit(now) / 1_000_000_000 + 1
    }

    /// Withdraws one retry or hedge, or returns why there is none.
    pub fn withdraw(&self, now: Instant) -> Result<(), BudgetSpent> {
        self.0.withdraw(now)
    }

    /// Retries that the deposits of the window still allow, without the floor.
    pub fn available(&self, now: Instant) -> u64 {
        let Counts { a: deposits, b: spent, .. } = self.0.window.sum(nanos_since(self.0.base, now));
        (deposits * self.0.percent / 100).saturating_sub(spent)
    }
}

#[cfg(test)]
mod tests;
