//! The limiter: permits and the queue in front of them, behind one lock that is not held across an await.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::algorithm::{Algorithm, Sample, Verdict};
use super::permit::{Acquire, Permit, Ticket};
use super::queue::{Queue, QueueConfig, Refusal, State, Wake};
use crate::context::Priority;
use crate::decision::{Decided, Level};
use crate::sync::{Mutex, MutexGuard, lock};
use crate::{Deadline, RequestContext};

/// Share of the limit, in per cent, that sheddable work may fill. The rest stays free for more important work. A
/// large payment provider publishes the same reserve, a fifth, for its critical traffic.
const SHEDDABLE_SHARE: usize = 80;

/// Counts permits against a limit, and queues requests for them. Shared by `Arc`; all clones of the `Arc` are one
/// limit.
///
/// ```
/// use mainstay::limit::{Admission, Fixed, Limiter, QueueConfig};
/// use mainstay::{Deadline, context::Priority};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let limiter = Limiter::new(Fixed::new(1), QueueConfig::default());
/// let permit = limiter.try_acquire(Priority::Default).expect("nothing is in flight");
/// let deadline = Deadline::after(Duration::from_secs(1));
/// let Admission::Queued(ticket) = limiter.admit(Priority::Default, deadline) else { panic!("the queue is empty") };
/// drop(permit);
/// let permit = ticket.await.expect("the permit came free in time");
/// # drop(permit);
/// # }
/// ```
pub struct Limiter {
    core: Mutex<Core>,
}

pub(super) struct Core {
    algorithm: Box<dyn Algorithm>,
    limit: usize,
    in_flight: usize,
    pub(super) queue: Queue,
    /// Moving average of the time that requests take.
    usual: Duration,
}

/// The limiter's state at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimiterSnapshot {
    /// Name of the algorithm that decides the limit.
    pub algorithm: &'static str,
    /// Requests allowed at the same time.
    pub limit: usize,
    /// Requests that hold a permit.
    pub in_flight: usize,
    /// Waiting requests by priority, least important first.
    pub waiting: [usize; Priority::ALL.len()],
    /// Maximum number of waiting requests under the current limit.
    pub queue_capacity: usize,
    /// Whether the queue is standing, and therefore served newest-first.
    pub standing: bool,
}

/// The result of asking for a permit.
#[derive(Debug)]
pub enum Admission {
    /// A permit was free.
    Admitted(Permit),
    /// The request is in the queue: await this.
    Queued(Acquire),
    /// No permit was free, and the queue has no room for the request.
    Refused(Refusal),
}

impl Limiter {
    /// A limiter whose limit `algorithm` decides.
    pub fn new(algorithm: impl Algorithm, queue: QueueConfig) -> Arc<Self> {
        Self::boxed(Box::new(algorithm), queue)
    }

    pub(crate) fn boxed(algorithm: Box<dyn Algorithm>, queue: QueueConfig) -> Arc<Self> {
        let limit = algorithm.limit().max(1);
        publish(limit);
        let queue = Queue::new(queue, Instant::now());
        Arc::new(Self {
            core: Mutex::new(Core { algorithm, limit, in_flight: 0, queue, usual: Duration::ZERO }),
        })
    }

    /// Takes a permit if one is free, and joins the queue otherwise, if the queue has room. Does not block.
    pub fn admit(self: &Arc<Self>, priority: Priority, deadline: Deadline) -> Admission {
        match self.enter(priority, deadline.instant()) {
            Ok(Ok(permit)) => Admission::Admitted(permit),
            Ok(Err(ticket)) => Admission::Queued(Acquire::new(ticket, deadline)),
            Err(refusal) => Admission::Refused(refusal),
        }
    }

    /// A permit, else a ticket for the queue, else a refusal.
    fn enter(
        self: &Arc<Self>,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Result<Permit, Ticket>, Refusal> {
        let now = Instant::now();
        let mut core = self.lock();
        if core.has_room(priority) {
            core.in_flight += 1;
            drop(core);
            return Ok(Ok(Permit::new(self, now, Duration::ZERO)));
        }
        if deadline <= now {
            return Err(Refusal::Expired);
        }
        core.queue.refresh(now);
        let limit = core.limit;
        let (slot, displaced) = core.queue.join(priority, deadline, limit, now)?;
        drop(core);
        let ticket = Ticket::new(self, slot);
        displaced.wake();
        self.dispatch();
        Ok(Err(ticket))
    }

    /// Takes a permit if one is free, and does not queue.
    pub fn try_acquire(self: &Arc<Self>, priority: Priority) -> Option<Permit> {
        let now = Instant::now();
        let mut core = self.lock();
        core.has_room(priority).then(|| {
            core.in_flight += 1;
            drop(core);
            Permit::new(self, now, Duration::ZERO)
        })
    }

    /// The state now. Takes the lock for a time that grows with the queue.
    pub fn snapshot(&self) -> LimiterSnapshot {
        let now = Instant::now();
        let mut core = self.lock();
        core.queue.refresh(now);
        LimiterSnapshot {
            algorithm: core.algorithm.name(),
            limit: core.limit,
            in_flight: core.in_flight,
            waiting: Priority::ALL.map(|p| core.queue.waiting_at(p)),
            queue_capacity: core.queue.capacity(core.limit),
            standing: core.queue.is_standing(now),
        }
    }

    /// Grants the free permits and removes waiters that have waited too long. Each waiter is woken after the lock is
    /// released.
    fn dispatch(&self) {
        loop {
            let mut core = self.lock();
            let Some(woken) = core.step(Instant::now()) else { return };
            drop(core);
            woken.wake();
        }
    }

    pub(super) fn release(&self) {
        let mut core = self.lock();
        core.in_flight -= 1;
        let waited_for = !core.queue.is_empty();
        drop(core);
        if waited_for {
            self.dispatch();
        }
    }

    pub(super) fn cut_off(&self, latency: Duration, at: Instant) {
        let usual = self.lock().usual;
        if latency >= usual {
            self.observe(latency, Verdict::Dropped, at);
        }
    }

    pub(super) fn observe(&self, latency: Duration, verdict: Verdict, at: Instant) {
        let mut core = self.lock();
        let sample = Sample { latency, in_flight: core.in_flight, verdict, at };
        core.usual = if core.usual.is_zero() { latency } else { (core.usual * 7 + latency) / 8 };
        let before = core.limit;
        let limit = core.algorithm.observe(sample).max(1);
        core.limit = limit;
        let algorithm = core.algorithm.name();
        drop(core);
        if limit != before {
            publish(limit);
            Moved { algorithm, before, limit, sample }.record();
        }
        if limit > before {
            self.dispatch();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        lock(&self.core)
    }
}

fn publish(limit: usize) {
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    crate::metric::gauge!(super::LIMIT).set(limit);
}

/// A change of the limit. It belongs to no single request, although one request completed the observed window.
struct Moved {
    algorithm: &'static str,
    before: usize,
    limit: usize,
    sample: Sample,
}

impl Moved {
    fn record(self) {
        let action = if self.limit > self.before { "grow" } else { "shrink" };
        let (layer, peer, level) = ("concurrency_limit", None, Level::Debug);
        Decided { layer, action, why: self, peer, endpoint: None, level }.record(None::<&RequestContext>);
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, before, limit, sample } = self;
        let Sample { latency, in_flight, verdict, .. } = sample;
        let verdict = match verdict {
            Verdict::Answered => "answered",
            Verdict::Dropped => "dropped",
        };
        write!(
            f,
            "{algorithm}: {before} to {limit}, with {in_flight} in flight, the last {verdict} after {latency:?}"
        )
    }
}

impl From<Moved> for Cow<'static, str> {
    fn from(moved: Moved) -> Self {
        moved.to_string().into()
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limiter").field(&self.snapshot()).finish()
    }
}

impl Core {
    fn has_room(&self, priority: Priority) -> bool {
        let share = match priority {
            Priority::Sheddable => (self.limit * SHEDDABLE_SHARE / 100).max(1),
            Priority::Degraded | Priority::Default | Priority::Critical => self.limit,
        };
        self.in_flight < share
    }

    /// One action on the queue that is possible now, if any. Less important work has a smaller share, so when there
    /// is no room for the most important waiter there is none for any other.
    fn step(&mut self, now: Instant) -> Option<Wake> {
        self.queue.refresh(now);
        if let Some(priority) = self.queue.most_important()
            && self.has_room(priority)
        {
            let (state, woken) = self.queue.serve(priority, now)?;
            if state == State::Granted {
                self.in_flight += 1;
            }
            return Some(woken);
        }
        self.queue.sweep(self.usual, now)
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
