//! The retry budget: repeats may add at most a fixed share to the load of a dependency.
//!
//! Every definite answer of the peer deposits; every retry or hedge withdraws. In any window the withdrawals stay
//! within `percent` of the deposits, counted in whole calls, plus a small floor that keeps a quiet client
//! able to repeat at all. When the peer fails altogether nothing is deposited and only the floor is left, so
//! retries fade exactly when they would hurt.
//!
//! Deposits are one atomic addition. Withdrawals, which are rare, take a short mutex, so that two callers can never
//! both spend the last one.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::clock::nanos_since;
use crate::config_error::{Check, ConfigError};
use crate::sync::{Mutex, lock};
use crate::window::{Counts, Window};

/// How much may be repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetConfig {
    /// Retries and hedges for each hundred definite answers; 0 to 100. Default 10: with three layers each at 10 %,
    /// load grows 1.33 times at worst; with three attempts and no budget, 27 times (Google SRE Book,
    /// "Handling Overload", uses the same share).
    pub percent: u32,
    /// How far back deposits count; 1 s to 10 min. Default 10 s, as Finagle.
    pub window: Duration,
    /// Further retries per second that need no deposit; 0 to 1,000. Default 1: Finagle's 10 would double the
    /// load of a client that makes ten calls a second.
    pub floor_per_second: u32,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { percent: 10, window: Duration::from_secs(10), floor_per_second: 1 }
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

/// One dependency's budget. Clones share it.
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

/// Slots of the window: 100 ms each for ten seconds.
const SLOTS: usize = if cfg!(loom) { 2 } else { 100 };

#[derive(Debug)]
pub(crate) struct Core {
    percent: u64,
    /// `None` when there is no floor.
    floor_every: Option<Duration>,
    /// `a` deposits, `b` withdrawals that deposits paid for.
    window: Window<SLOTS>,
    /// When the floor may pay next.
    floor_from: Mutex<Instant>,
    base: Instant,
}

/// The budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("retry budget spent: {spent} of {allowed} earned by {deposits} answers, floor used")]
pub struct BudgetSpent {
    /// Withdrawals in the window.
    pub spent: u64,
    /// What the deposits in the window allow.
    pub allowed: u64,
    /// Deposits in the window.
    pub deposits: u64,
}

/// A budget as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BudgetSnapshot {
    /// Definite answers in the window.
    pub deposits: u64,
    /// Retries and hedges in the window that those paid for.
    pub spent: u64,
    /// How many more they allow, the floor left out.
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

    /// Says, as nanoseconds of the budget's life, when it was.
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
    /// A budget with nothing deposited.
    pub fn new(config: &BudgetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self(Arc::new(Core::new(config, Instant::now()))))
    }

    /// To watch it without keeping it.
    pub(crate) fn downgrade(&self) -> Weak<Core> {
        Arc::downgrade(&self.0)
    }

    /// Counts a definite answer of the peer.
    pub fn deposit(&self, now: Instant) {
        self.0.deposit(now);
    }

    /// The same, and says in which second of the budget's life, from 1.
    pub(crate) fn deposit_in_second(&self, now: Instant) -> u64 {
        self.0.deposit(now) / 1_000_000_000 + 1
    }

    /// Takes one retry or hedge, or says why there is none.
    pub fn withdraw(&self, now: Instant) -> Result<(), BudgetSpent> {
        self.0.withdraw(now)
    }

    /// How many retries the deposits of the window still allow, the floor left out.
    pub fn available(&self, now: Instant) -> u64 {
        let Counts { a: deposits, b: spent, .. } = self.0.window.sum(nanos_since(self.0.base, now));
        (deposits * self.0.percent / 100).saturating_sub(spent)
    }
}

#[cfg(test)]
mod tests;
