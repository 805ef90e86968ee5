//! Random sequences of calls: no permit is lost or granted twice, and no request waits while a permit is free.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::super::algorithm::Fixed;
use super::*;

#[derive(Debug, Clone, Copy)]
enum Op {
    Admit { priority: Priority, time_ms: u64 },
    Release(usize),
    Poll(usize),
    Leave(usize),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let priority = proptest::sample::select(&Priority::ALL[..]);
    prop_oneof![
        5 => (priority, 0..80_u64).prop_map(|(priority, time_ms)| Op::Admit { priority, time_ms }),
        3 => (0..8_usize).prop_map(Op::Release),
        3 => (0..8_usize).prop_map(Op::Poll),
        1 => (0..8_usize).prop_map(Op::Leave),
        2 => (0..40_u64).prop_map(Op::Advance),
    ]
}

fn share(limit: usize, priority: Priority) -> usize {
    if priority == Priority::Sheddable { (limit * SHEDDABLE_SHARE / 100).max(1) } else { limit }
}

fn paused(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can always be built").block_on(test)
}

proptest! {
    #[test]
    fn no_permit_is_lost_or_granted_twice(
        limit in 1..6_usize,
        capacity in 0..5_usize,
        ops in proptest::collection::vec(op(), 1..150),
    ) {
        paused(async move {
            let queue = QueueConfig { capacity: Some(capacity), ..QueueConfig::default() };
            let limiter = Limiter::new(Fixed::new(limit), queue);
            let (mut held, mut waiting) = (Vec::new(), Vec::new());
            let mut cx = Context::from_waker(Waker::noop());
            for op in ops {
                match op {
                    Op::Admit { priority, time_ms } => {
                        let before = limiter.snapshot();
                        let deadline = Deadline::after(Duration::from_millis(time_ms));
                        match limiter.admit(priority, deadline) {
                            Admission::Admitted(permit) => {
                                prop_assert!(before.in_flight < share(limit, priority));
                                held.push(permit);
                            }
                            Admission::Queued(acquire) => waiting.push(Box::pin(acquire)),
                            Admission::Refused(_) => {
                                prop_assert!(before.in_flight >= share(limit, priority));
                            }
                        }
                    }
                    Op::Release(nth) => {
                        if nth < held.len() {
                            drop(held.swap_remove(nth));
                        }
                    }
                    Op::Poll(nth) => {
                        if nth < waiting.len() {
                            let expired = waiting[nth].has_expired();
                            match waiting[nth].as_mut().poll(&mut cx) {
                                Poll::Pending => prop_assert!(!expired, "a waiter stayed in the queue after its deadline"),
                                Poll::Ready(outcome) => {
                                    drop(waiting.swap_remove(nth));
                                    prop_assert!(!(expired && outcome.is_ok()), "a request started after its deadline");
                                    held.extend(outcome);
                                }
                            }
                        }
                    }
                    Op::Leave(nth) => {
                        if nth < waiting.len() {
                            drop(waiting.swap_remove(nth));
                        }
                    }
                    Op::Advance(ms) => tokio::time::advance(Duration::from_millis(ms)).await,
                }
                let now = limiter.snapshot();
                prop_assert!(held.len() <= now.in_flight && now.in_flight <= limit, "{now:?}");
                prop_assert!(now.in_flight <= held.len() + waiting.len(), "{now:?}");
                prop_assert!(now.waiting.iter().sum::<usize>() <= capacity, "{now:?}");
                for priority in Priority::ALL {
                    let idle = now.waiting[priority as usize] > 0 && now.in_flight < share(limit, priority);
                    prop_assert!(!idle, "a request waits while a permit is free: {now:?}");
                }
            }
            drop((held, waiting));
            let now = limiter.snapshot();
            prop_assert_eq!((now.in_flight, now.waiting), (0, [0; 4]));
            let permits: Vec<_> = (0..limit).map(|_| limiter.try_acquire(Priority::Default)).collect();
            prop_assert!(permits.iter().all(Option::is_some), "all permits are free again");
            prop_assert!(limiter.try_acquire(Priority::Critical).is_none());
            Ok(())
        })?;
    }
}
