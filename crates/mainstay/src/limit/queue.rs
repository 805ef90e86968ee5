//! The queue in front of the permits: bounded, with four lines by priority. It serves the oldest first normally, and
//! the newest first while it is standing.
//!
//! A queue that becomes empty now and then absorbs bursts, and serving the oldest first is fair. A standing queue
//! (for a whole `interval`, some waiter has always waited longer than `target`) only adds delay. Its oldest waiters
//! are the ones whose callers have most likely left, so the newest are served first. A waiter that has waited a whole
//! `interval`, and longer than a request usually takes, is refused. (Where a request takes seconds, a wait of 100 ms
//! means little: a permit may come free soon.) Target and interval (5 ms, 100 ms) are those of the controlled-delay
//! queue in RFC 8289. Newest-first under overload is "adaptive LIFO" (Maurer, "Fail at Scale", ACM Queue 2015).
//!
//! The queue is a pure data structure: the time is passed in, and it neither locks nor wakes. Waiters live in slots
//! that are reused, so that a full queue allocates nothing. Every operation takes constant time.

use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use crate::context::Priority;
use crate::settings::settings;

settings! {
    /// Settings of the queue: its length, and when it counts as standing.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct QueueConfig {
        /// Maximum number of waiters. `None` (the default) is half of the current limit, so that a queue can add at
        /// most half a service time. `Some(0)` disables the queue.
        pub capacity: Option<usize> = None,
        /// Longest wait that is no sign of overload. Default 5 ms.
        pub target: Duration = Duration::from_millis(5),
        /// Time that waits must stay above `target` before the queue counts as standing. It is also the shortest wait
        /// after which a standing queue refuses a waiter. Default 100 ms.
        pub interval: Duration = Duration::from_millis(100),
    }
}

/// The reason why a request was not admitted. No part of it was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.why())]
pub enum Refusal {
    /// No permit is free and the queue is full.
    QueueFull,
    /// A more important request, or a newer one while the queue was standing, took the waiter's slot.
    Displaced,
    /// The waiter waited a whole interval, and longer than a request usually takes, in a standing queue.
    Standing,
    /// The deadline passed in the queue.
    Expired,
}

impl Refusal {
    /// The stable name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::Displaced => "displaced",
            Self::Standing => "standing",
            Self::Expired => "expired",
        }
    }

    /// The reason as text for the decision trail.
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::QueueFull => "no permit is free and the queue is full",
            Self::Displaced => "a more important or a newer request took its slot in the queue",
            Self::Standing => "it waited longer than a request usually takes in a standing queue",
            Self::Expired => "the deadline passed in the queue",
        }
    }
}

const NONE: usize = usize::MAX;

/// The state of a waiter's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Waiting,
    Granted,
    Refused(Refusal),
}

#[derive(Debug)]
struct Slot {
    state: State,
    priority: Priority,
    since: Instant,
    deadline: Instant,
    waker: Option<Waker>,
    /// Neighbours in the line while the slot waits. While the slot is free, `newer` links the free list.
    older: usize,
    newer: usize,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    oldest: usize,
    newest: usize,
}

#[derive(Debug)]
pub(super) struct Queue {
    config: QueueConfig,
    slots: Vec<Slot>,
    free: usize,
    lines: [Line; Priority::ALL.len()],
    waiting: usize,
    /// The last time at which no waiter had waited longer than `target`.
    calm_at: Instant,
    /// Time of the last update of `calm_at`.
    refreshed_at: Instant,
}

/// The waker of a waiter whose state changed, to be called after the lock is released. Empty if the waiter was not
/// polled yet.
#[derive(Debug, Default)]
#[must_use = "a waiter that is not woken waits for its deadline"]
pub(super) struct Wake(Option<Waker>);

impl Wake {
    pub(super) fn wake(self) {
        if let Some(waker) = self.0 {
            waker.wake();
        }
    }
}

impl Queue {
    pub(super) fn new(config: QueueConfig, now: Instant) -> Self {
        Self {
            config,
            slots: Vec::new(),
            free: NONE,
            lines: [Line { oldest: NONE, newest: NONE }; Priority::ALL.len()],
            waiting: 0,
            calm_at: now,
            refreshed_at: now,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) fn waiting_at(&self, priority: Priority) -> usize {
        let mut count = 0;
        let mut at = self.lines[priority as usize].oldest;
        while at != NONE {
            count += 1;
            at = self.slots[at].newer;
        }
        count
    }

    pub(super) fn capacity(&self, limit: usize) -> usize {
        self.config.capacity.unwrap_or(limit.div_ceil(2))
    }

    /// Time at which the oldest waiter of any priority joined.
    fn oldest_since(&self) -> Option<Instant> {
        self.lines.iter().filter(|l| l.oldest != NONE).map(|l| self.slots[l.oldest].since).min()
    }

    /// Brings `calm_at` up to `now`. Call it before any waiter joins or leaves, because it reads the state since the
    /// previous operation.
    pub(super) fn refresh(&mut self, now: Instant) {
        let calm_until = match self.oldest_since() {
            None => now,
            Some(since) => now.min(since + self.config.target),
        };
        // The present waiters show only the time between the two operations. Before that, others may have waited
        // longer.
        if calm_until >= self.refreshed_at {
            self.calm_at = calm_until;
        }
        self.refreshed_at = self.refreshed_at.max(now);
    }

    /// Whether waits have stayed above the target for a whole interval.
    pub(super) fn is_standing(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.calm_at) >= self.config.interval
    }

    /// Adds a waiter, which may displace another one. The displaced waiter must then be woken.
    pub(super) fn join(
        &mut self,
        priority: Priority,
        deadline: Instant,
        limit: usize,
        now: Instant,
    ) -> Result<(usize, Wake), Refusal> {
        let mut displaced = Wake::default();
        if self.waiting >= self.capacity(limit) {
            let victim = self.victim_for(priority, now).ok_or(Refusal::QueueFull)?;
            displaced = self.refuse(victim, Refusal::Displaced);
        }
        let slot = Slot {
            state: State::Waiting,
            priority,
            since: now,
            deadline,
            waker: None,
            older: NONE,
            newer: NONE,
        };
        let index = if self.free == NONE {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let index = self.free;
            self.free = self.slots[index].newer;
            self.slots[index] = slot;
            index
        };
        let line = &mut self.lines[priority as usize];
        self.slots[index].older = line.newest;
        match line.newest {
            NONE => line.oldest = index,
            newest => self.slots[newest].newer = index,
        }
        line.newest = index;
        self.waiting += 1;
        Ok((index, displaced))
    }

    /// The waiter that a newcomer displaces when the queue is full: the oldest of the least important line below its
    /// own, or of its own line while the queue is standing.
    fn victim_for(&self, priority: Priority, now: Instant) -> Option<usize> {
        let standing = self.is_standing(now);
        Priority::ALL
            .into_iter()
            .take_while(|p| *p < priority || (standing && *p == priority))
            .map(|p| self.lines[p as usize].oldest)
            .find(|oldest| *oldest != NONE)
    }

    /// The most important priority that has a waiter.
    pub(super) fn most_important(&self) -> Option<Priority> {
        Priority::ALL.into_iter().rev().find(|p| self.lines[*p as usize].oldest != NONE)
    }

    /// Grants the next waiter of `priority` a permit, or refuses it when its deadline has passed, and returns its new
    /// state.
    pub(super) fn serve(&mut self, priority: Priority, now: Instant) -> Option<(State, Wake)> {
        let line = self.lines[priority as usize];
        let next = if self.is_standing(now) { line.newest } else { line.oldest };
        let slot = self.slots.get_mut(next)?;
        let state = if slot.deadline <= now { State::Refused(Refusal::Expired) } else { State::Granted };
        slot.state = state;
        let wake = Wake(slot.waker.take());
        self.unlink(next);
        Some((state, wake))
    }

    /// Refuses one waiter that has waited a whole interval and `usual`, a usual service time, in a standing queue;
    /// the least important first.
    pub(super) fn sweep(&mut self, usual: Duration, now: Instant) -> Option<Wake> {
        if !self.is_standing(now) {
            return None;
        }
        let patience = usual.max(self.config.interval);
        let over =
            |index: &usize| self.slots.get(*index).is_some_and(|s| now.duration_since(s.since) >= patience);
        let index = self.lines.iter().map(|l| l.oldest).find(over)?;
        Some(self.refuse(index, Refusal::Standing))
    }

    /// The state of the waiter in `index`. Stores the waker while it still waits.
    pub(super) fn look(&mut self, index: usize, waker: &Waker) -> State {
        let slot = &mut self.slots[index];
        if slot.state == State::Waiting {
            match &mut slot.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
        slot.state
    }

    pub(super) fn since(&self, index: usize) -> Instant {
        self.slots[index].since
    }

    /// Frees the slot for its owner and returns the slot's last state.
    pub(super) fn leave(&mut self, index: usize) -> State {
        let state = self.slots[index].state;
        if state == State::Waiting {
            self.unlink(index);
        }
        let slot = &mut self.slots[index];
        (slot.state, slot.waker, slot.newer) = (State::Free, None, self.free);
        self.free = index;
        state
    }

    fn refuse(&mut self, index: usize, why: Refusal) -> Wake {
        self.unlink(index);
        let slot = &mut self.slots[index];
        slot.state = State::Refused(why);
        Wake(slot.waker.take())
    }

    fn unlink(&mut self, index: usize) {
        let (older, newer, line) = {
            let slot = &self.slots[index];
            (slot.older, slot.newer, slot.priority as usize)
        };
        match older {
            NONE => self.lines[line].oldest = newer,
            older => self.slots[older].newer = newer,
        }
        match newer {
            NONE => self.lines[line].newest = older,
            newer => self.slots[newer].older = older,
        }
        self.waiting -= 1;
    }
}

#[cfg(test)]
mod tests;
