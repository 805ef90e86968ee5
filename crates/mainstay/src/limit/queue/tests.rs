//! The queue compared with a simple model: a list that is walked in full, one millisecond at a time.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Op {
    Join { priority: Priority, time_ms: u64 },
    Serve,
    Sweep { usual_ms: u64 },
    Leave(usize),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let priority = proptest::sample::select(&Priority::ALL[..]);
    prop_oneof![
        4 => (priority, 0..60_u64).prop_map(|(priority, time_ms)| Op::Join { priority, time_ms }),
        2 => Just(Op::Serve),
        1 => (0..60_u64).prop_map(|usual_ms| Op::Sweep { usual_ms }),
        1 => (0..8_usize).prop_map(Op::Leave),
        3 => (0..25_u64).prop_map(Op::Advance),
    ]
}

const CAPACITY: usize = 5;
const TARGET: u64 = 5;
const INTERVAL: u64 = 30;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Waiter {
    name: usize,
    priority: Priority,
    since: u64,
    deadline: u64,
}

/// Waiters in order of arrival.
#[derive(Debug, Default)]
struct Model {
    waiters: Vec<Waiter>,
    now: u64,
    calm_at: u64,
}

impl Model {
    fn look_at_the_clock(&mut self) {
        if self.waiters.iter().all(|w| self.now - w.since <= TARGET) {
            self.calm_at = self.now;
        }
    }

    fn advance(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1;
            self.look_at_the_clock();
        }
    }

    fn standing(&self) -> bool {
        self.now - self.calm_at >= INTERVAL
    }

    fn take(&mut self, matches: impl Fn(&Waiter) -> bool, newest: bool) -> Option<Waiter> {
        let at = if newest {
            self.waiters.iter().rposition(&matches)
        } else {
            self.waiters.iter().position(&matches)
        }?;
        Some(self.waiters.remove(at))
    }

    /// The waiter that was displaced for the newcomer, or a refusal of the newcomer.
    fn join(&mut self, waiter: Waiter) -> Result<Option<usize>, Refusal> {
        let mut displaced = None;
        if self.waiters.len() >= CAPACITY {
            let standing = self.standing();
            let least = self.waiters.iter().map(|w| w.priority).min().unwrap();
            if least > waiter.priority || (least == waiter.priority && !standing) {
                return Err(Refusal::QueueFull);
            }
            displaced = self.take(|w| w.priority == least, false).map(|w| w.name);
        }
        self.waiters.push(waiter);
        Ok(displaced)
    }

    fn serve(&mut self) -> Option<(usize, State)> {
        let most = self.waiters.iter().map(|w| w.priority).max()?;
        let newest = self.standing();
        let waiter = self.take(|w| w.priority == most, newest)?;
        let expired = waiter.deadline <= self.now;
        Some((waiter.name, if expired { State::Refused(Refusal::Expired) } else { State::Granted }))
    }

    fn sweep(&mut self, usual: u64) -> Option<usize> {
        if !self.standing() {
            return None;
        }
        for priority in Priority::ALL {
            // The queue checks only the oldest waiter of each line.
            let oldest = self.waiters.iter().find(|w| w.priority == priority);
            if oldest.is_some_and(|w| self.now - w.since >= INTERVAL.max(usual)) {
                return self.take(|w| w.priority == priority, false).map(|w| w.name);
            }
        }
        None
    }
}

proptest! {
    #[test]
    fn the_queue_does_what_the_model_does(ops in proptest::collection::vec(op(), 1..200)) {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let config = QueueConfig {
            capacity: Some(CAPACITY),
            target: Duration::from_millis(TARGET),
            interval: Duration::from_millis(INTERVAL),
        };
        let (mut queue, mut model) = (Queue::new(config, start), Model::default());
        // Slot of each admitted waiter, by name, until its owner leaves.
        let mut slots: Vec<Option<usize>> = Vec::new();
        for op in ops {
            if let Op::Advance(ms) = op {
                model.advance(ms);
                continue;
            }
            let now = at(model.now);
            queue.refresh(now);
            model.look_at_the_clock();
            prop_assert_eq!(queue.is_standing(now), model.standing());
            let state_of = |queue: &Queue, name: usize| {
                slots.get(name).copied().flatten().map(|slot| queue.slots[slot].state)
            };
            match op {
                Op::Join { priority, time_ms } => {
                    let waiter =
                        Waiter { name: slots.len(), priority, since: model.now, deadline: model.now + time_ms };
                    match (queue.join(priority, at(waiter.deadline), 99, now), model.join(waiter)) {
                        (Ok((slot, _)), Ok(displaced)) => {
                            if let Some(name) = displaced {
                                let state = state_of(&queue, name);
                                prop_assert_eq!(state, Some(State::Refused(Refusal::Displaced)));
                            }
                            slots.push(Some(slot));
                        }
                        (Err(ours), Err(theirs)) => prop_assert_eq!(ours, theirs),
                        (ours, theirs) => prop_assert!(false, "{ours:?} against {theirs:?}"),
                    }
                }
                Op::Serve => {
                    let ours = queue.most_important().and_then(|p| queue.serve(p, now)).map(|(state, _)| state);
                    let theirs = model.serve();
                    prop_assert_eq!(ours, theirs.map(|(_, state)| state));
                    if let Some((name, state)) = theirs {
                        prop_assert_eq!(state_of(&queue, name), Some(state));
                    }
                }
                Op::Sweep { usual_ms } => {
                    let ours = queue.sweep(Duration::from_millis(usual_ms), now).is_some();
                    let theirs = model.sweep(usual_ms);
                    prop_assert_eq!(ours, theirs.is_some());
                    if let Some(name) = theirs {
                        prop_assert_eq!(state_of(&queue, name), Some(State::Refused(Refusal::Standing)));
                    }
                }
                Op::Leave(nth) => {
                    let live: Vec<_> = (0..slots.len()).filter(|name| slots[*name].is_some()).collect();
                    if let Some(name) = live.get(nth).copied() {
                        let was_waiting = model.take(|w| w.name == name, false).is_some();
                        let slot = slots[name].take().expect("the waiter is live");
                        prop_assert_eq!(queue.leave(slot) == State::Waiting, was_waiting);
                    }
                }
                Op::Advance(_) => unreachable!("the match above handles Advance"),
            }
            model.look_at_the_clock();
            prop_assert_eq!(queue.waiting, model.waiters.len());
            prop_assert!(queue.waiting <= CAPACITY);
            for priority in Priority::ALL {
                let modelled = model.waiters.iter().filter(|w| w.priority == priority).count();
                prop_assert_eq!(queue.waiting_at(priority), modelled);
            }
        }
        let live = slots.iter().flatten().count();
        prop_assert!(queue.slots.len() >= live);
        for slot in slots.into_iter().flatten() {
            queue.leave(slot);
        }
        prop_assert_eq!(queue.waiting, 0);
    }
}

#[test]
fn slots_are_reused() {
    let now = Instant::now();
    let mut queue = Queue::new(QueueConfig { capacity: Some(3), ..QueueConfig::default() }, now);
    for _ in 0..1_000 {
        let slots: Vec<_> = (0..3)
            .map(|_| queue.join(Priority::Default, now, 1, now).map(|(slot, _)| slot).unwrap())
            .collect();
        for slot in slots {
            assert_eq!(queue.leave(slot), State::Waiting);
        }
    }
    assert_eq!(queue.slots.len(), 3);
}
