//! The results of admission: a permit, or a ticket in the queue that becomes a permit.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::algorithm::Verdict;
use super::limiter::Limiter;
use super::queue::{Refusal, State};
use crate::Deadline;

/// The right to have one request in flight. It is returned on drop, however the request ends.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    since: Instant,
    waited: Duration,
}

impl Permit {
    pub(super) fn new(limiter: &Arc<Limiter>, since: Instant, waited: Duration) -> Self {
        Self { limiter: Arc::clone(limiter), since, waited }
    }

    /// Time in the queue until the permit was granted: zero when a permit was free at once.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Reports to the algorithm how the request ended, with the latency up to now. Call it once, when the reply is
    /// ready. A permit that is dropped without this call (a caller that left) reports nothing.
    pub fn observe(&self, verdict: Verdict) {
        let now = Instant::now();
        self.limiter.observe(now.duration_since(self.since), verdict, now);
    }
}

impl Permit {
    /// Reports a request that its own deadline ended. It is a sign of overload only if the request had as long as
    /// requests usually take: otherwise one impatient caller could shrink the limit for all.
    pub(crate) fn cut_off(&self) {
        let now = Instant::now();
        self.limiter.cut_off(now.duration_since(self.since), now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.release();
    }
}

/// A ticket in the queue, without a timer. Dropping it leaves the queue, or returns a permit that was granted in the
/// meantime, so that no permit is lost to a waiter that left.
#[derive(Debug)]
pub(super) struct Ticket {
    limiter: Arc<Limiter>,
    /// `None` once the outcome has been taken.
    slot: Option<usize>,
}

impl Ticket {
    pub(super) fn new(limiter: &Arc<Limiter>, slot: usize) -> Self {
        Self { limiter: Arc::clone(limiter), slot: Some(slot) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit, Refusal>> {
        let slot = self.slot.expect("an Acquire is not polled again after it was ready");
        let mut core = self.limiter.lock();
        let state = core.queue.look(slot, cx.waker());
        if state == State::Waiting {
            return Poll::Pending;
        }
        let since = core.queue.since(slot);
        core.queue.leave(slot);
        drop(core);
        self.slot = None;
        let now = Instant::now();
        Poll::Ready(match state {
            State::Refused(refusal) => Err(refusal),
            State::Granted => Ok(Permit::new(&self.limiter, now, now.duration_since(since))),
            State::Free | State::Waiting => {
                unreachable!("a slot is freed only by its ticket, and waiting returned")
            }
        })
    }

    /// Leaves the queue. A permit that was granted in the meantime goes to the next waiter.
    fn give_up(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let mut core = self.limiter.lock();
        core.queue.refresh(Instant::now());
        if core.queue.leave(slot) == State::Granted {
            drop(core);
            self.limiter.release();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give_up();
    }
}

pin_project! {
    /// Waits in the queue for a permit, until the deadline at most. Cancel safe: dropping it leaves the queue.
    #[derive(Debug)]
    #[must_use = "dropping an Acquire leaves the queue"]
    pub struct Acquire {
        ticket: Ticket,
        #[pin]
        expiry: Sleep,
    }
}

impl Acquire {
    pub(super) fn new(ticket: Ticket, deadline: Deadline) -> Self {
        Self { ticket, expiry: sleep_until(deadline.instant()) }
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn has_expired(&self) -> bool {
        self.expiry.deadline() <= Instant::now()
    }
}

impl Future for Acquire {
    type Output = Result<Permit, Refusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.ticket.poll(cx) {
            // The permit was granted in time but polled late. Nothing may start after its deadline, so the permit is
            // returned.
            Poll::Ready(Ok(permit)) if this.expiry.deadline() <= permit.since => {}
            Poll::Ready(outcome) => return Poll::Ready(outcome),
            Poll::Pending if this.expiry.poll(cx).is_pending() => return Poll::Pending,
            Poll::Pending => this.ticket.give_up(),
        }
        Poll::Ready(Err(Refusal::Expired))
    }
}
