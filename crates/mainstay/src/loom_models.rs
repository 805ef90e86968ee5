//! Loom models: every interleaving of two threads over the state that calls share.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p mainstay --lib --target-dir target/loom loom`

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;
use tokio::time::Instant;

use crate::breaker::core::{Admitted, Core, Ended, Order, Verdict};
use crate::breaker::{BreakerConfig, BreakerState};
use crate::budget::{BudgetConfig, Core as Budget};
use crate::bulkhead::InFlight;
use crate::random::Random;
use crate::throttle::{ThrottleConfig, balance::Balance};
use crate::window::{Counts, Window};

const ONE: Counts = Counts { a: 1, b: 0, c: 0 };

/// Runs `work` on two threads at once and returns both results.
fn both<T: Send + 'static>(work: impl Fn() -> T + Clone + Send + 'static) -> [T; 2] {
    let other = thread::spawn(work.clone());
    let first = work();
    [first, other.join().unwrap()]
}

#[test]
fn no_count_is_lost_when_two_callers_turn_a_slot() {
    loom::model(|| {
        let window = Arc::new(Window::<2>::new(Duration::from_nanos(20)));
        window.add(0, ONE);
        let shared = Arc::clone(&window);
        // Slot 2 is slot 0 of the next lap.
        both(move || shared.add(20, ONE));
        assert_eq!(window.sum(20), Counts { a: 2, b: 0, c: 0 });
    });
}

#[test]
fn a_late_caller_loses_only_its_own_count() {
    loom::model(|| {
        let window = Arc::new(Window::<2>::new(Duration::from_nanos(20)));
        let late = {
            let window = Arc::clone(&window);
            thread::spawn(move || window.add(0, Counts { a: 1, b: 1, c: 0 }))
        };
        window.add(20, ONE);
        late.join().unwrap();
        let sum = window.sum(20);
        assert!((1..=2).contains(&sum.a) && sum.b == sum.a - 1, "{sum:?}");
    });
}

#[test]
fn the_last_permit_is_taken_once_and_always_returned() {
    loom::model(|| {
        let permits = Arc::new(InFlight::new(1));
        let shared = Arc::clone(&permits);
        let inside = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let seen = Arc::clone(&inside);
        both(move || {
            let entered = shared.try_enter();
            if entered {
                assert_eq!(seen.fetch_add(1, loom::sync::atomic::Ordering::SeqCst), 0, "two at once");
                seen.fetch_sub(1, loom::sync::atomic::Ordering::SeqCst);
                shared.leave();
            }
            entered
        });
        assert_eq!(permits.count(), 0);
        assert!(permits.try_enter());
    });
}

/// A balance with a debt of `calls`.
fn in_debt(calls: u64) -> Arc<Balance> {
    let config = ThrottleConfig { min_calls: 1, ..ThrottleConfig::default() };
    let balance = Balance::new(&config);
    (0..config.min_calls + calls).for_each(|_| balance.throttled());
    Arc::new(balance)
}

#[test]
fn a_throttled_and_an_accepted_call_balance_each_other() {
    loom::model(|| {
        let balance = in_debt(2);
        let before = balance.held_back();
        let other = Arc::clone(&balance);
        let throttled = thread::spawn(move || other.throttled());
        balance.accepted();
        throttled.join().unwrap();
        assert!((balance.held_back() - before).abs() < 1e-9, "{} after {before}", balance.held_back());
    });
}

#[test]
fn a_throttled_call_is_cleared_or_counts_but_old_debt_never_returns() {
    loom::model(|| {
        let balance = in_debt(5);
        let other = Arc::clone(&balance);
        let throttled = thread::spawn(move || other.throttled());
        balance.forgive();
        throttled.join().unwrap();
        let after = balance.held_back();
        assert!(after <= in_debt(1).held_back() + 1e-9, "{after}");
    });
}

#[test]
fn no_call_is_refused_while_a_permit_is_free() {
    loom::model(|| {
        let permits = Arc::new(InFlight::new(2));
        let shared = Arc::clone(&permits);
        assert_eq!(both(move || shared.try_enter()), [true, true]);
        assert!(!permits.try_enter());
    });
}

#[test]
fn the_last_retry_is_granted_once() {
    loom::model(|| {
        let now = Instant::now();
        let config = BudgetConfig { floor_per_second: 0, ..BudgetConfig::default() };
        let budget = Arc::new(Budget::new(&config, now));
        for _ in 0..10 {
            budget.deposit(now);
        }
        let shared = Arc::clone(&budget);
        let granted = both(move || shared.withdraw(now).is_ok());
        assert_eq!(granted.iter().filter(|&&ok| ok).count(), 1);
    });
}

#[test]
fn a_concurrent_deposit_pays_for_one_retry_only() {
    loom::model(|| {
        let now = Instant::now();
        let config = BudgetConfig { percent: 100, floor_per_second: 0, ..BudgetConfig::default() };
        let budget = Arc::new(Budget::new(&config, now));
        let depositing = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.deposit(now))
        };
        let first = budget.withdraw(now).is_ok();
        depositing.join().unwrap();
        let second = budget.withdraw(now).is_ok();
        assert!(first ^ second, "one deposit, one retry");
        assert!(budget.withdraw(now).is_err());
    });
}

struct Bench {
    core: Core,
    config: BreakerConfig,
    random: Random,
    now: u64,
}

impl Bench {
    fn new(config: BreakerConfig) -> Arc<Self> {
        let random = Random::seeded(1);
        Arc::new(Self { core: Core::new(&config), config, random, now: 0 })
    }

    fn small() -> Arc<Self> {
        let ramp = Duration::ZERO;
        Self::new(BreakerConfig { consecutive_failures: 2, probes: 1, ramp, ..BreakerConfig::default() })
    }

    fn admit(&self, now: u64) -> Option<Admitted> {
        self.core
            .admit_closed(false)
            .or_else(|| self.core.admit(false, now, &self.config, &self.random).0.ok())
    }

    /// Ends a call and returns whether its result changed the state.
    fn end(&self, call: Admitted, verdict: Verdict) -> bool {
        self.end_at(self.now, call, verdict)
    }

    fn end_at(&self, now: u64, call: Admitted, verdict: Verdict) -> bool {
        let ended = Ended { verdict, took: 0, is_slow: false };
        self.core.record(call, ended, now, &self.config, &self.random).is_some()
    }

    fn state(&self, now: u64) -> BreakerState {
        self.core.state(now, &self.config)
    }

    fn later(&self) -> u64 {
        self.now + nanos(self.config.open_max)
    }

    fn tripped() -> Arc<Self> {
        let bench = Self::small();
        for _ in 0..2 {
            let call = bench.admit(bench.now).unwrap();
            bench.end(call, Verdict::Bad);
        }
        assert_eq!(bench.state(bench.now), BreakerState::Open);
        bench
    }
}

#[test]
fn two_failures_at_once_trip_exactly_once() {
    loom::model(|| {
        let bench = Bench::small();
        let shared = Arc::clone(&bench);
        let trips = both(move || shared.admit(shared.now).is_some_and(|call| shared.end(call, Verdict::Bad)));
        assert_eq!(bench.state(bench.now), BreakerState::Open);
        assert_eq!(trips.iter().filter(|&&tripped| tripped).count(), 1);
    });
}

#[test]
fn exactly_one_probe_is_admitted() {
    loom::model(|| {
        let bench = Bench::tripped();
        let shared = Arc::clone(&bench);
        let probes = both(move || shared.admit(shared.later()));
        let [probe] = probes.into_iter().flatten().collect::<Vec<_>>()[..] else {
            panic!("expected exactly one probe")
        };
        assert!(probe.probe);
        assert!(bench.end(probe, Verdict::Good));
        assert_eq!(bench.state(bench.later()), BreakerState::Closed);
    });
}

#[test]
fn half_open_admits_a_next_probe_while_one_fails_and_another_call_arrives() {
    loom::model(|| {
        let bench = Bench::tripped();
        let probe = bench.admit(bench.later()).unwrap();
        let other = {
            let bench = Arc::clone(&bench);
            thread::spawn(move || bench.admit(bench.later()))
        };
        bench.end_at(bench.later(), probe, Verdict::Bad);
        assert_eq!(other.join().unwrap(), None);
        let much_later = bench.later() + nanos(bench.config.open_max);
        assert!(bench.admit(much_later).is_some_and(|call| call.probe), "there is always a next probe");
    });
}

#[test]
fn a_late_result_cannot_close_or_open_a_later_generation() {
    loom::model(|| {
        let bench = Bench::small();
        let straggler = bench.admit(bench.now).unwrap();
        let failing = {
            let bench = Arc::clone(&bench);
            thread::spawn(move || {
                for _ in 0..2 {
                    if let Some(call) = bench.admit(bench.now) {
                        bench.end(call, Verdict::Bad);
                    }
                }
            })
        };
        bench.core.order(Order::ForceOpen, bench.now);
        assert!(!bench.end(straggler, Verdict::Good));
        assert!(!bench.end(straggler, Verdict::Bad));
        failing.join().unwrap();
        assert_eq!(
            bench.state(bench.now),
            BreakerState::ForcedOpen,
            "the operator's order must stay in force"
        );
    });
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}
