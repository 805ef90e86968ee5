//! What a caller holds: a permit, or a place in the queue that becomes one.

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

/// The right to have one request in flight. Given back on drop, wherever and however that happens.
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

    /// How long it took to get: zero when there was room at once.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Tells the algorithm how the request went, with the latency up to now. Call it once, when the reply is ready;
    /// a permit dropped without it (a caller that left) teaches the algorithm nothing.
    pub fn observe(&self, verdict: Verdict) {
        let now = Instant::now();
        self.limiter.observe(now.duration_since(self.since), verdict, now);
    }
}

impl Permit {
    /// The request was ended by its own deadline. That is a sign of overload only if it had as long as requests usually
    /// take: otherwise one impatient caller could shrink the limit for all.
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

/// A place in the queue, without a clock. Dropping it leaves the queue, or gives back a permit that was granted in
/// the meantime, so that no permit is lost to a waiter who left.
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

    /// Leaves the queue. A grant that came in between is passed on.
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
    #[must_use = "a place in the queue is given up when this is dropped"]
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
            // Granted in time but polled late: nothing may start after its deadline, so the permit goes back.
            Poll::Ready(Ok(permit)) if this.expiry.deadline() <= permit.since => {}
            Poll::Ready(outcome) => return Poll::Ready(outcome),
            Poll::Pending if this.expiry.poll(cx).is_pending() => return Poll::Pending,
            Poll::Pending => this.ticket.give_up(),
        }
        Poll::Ready(Err(Refusal::Expired))
    }
}
