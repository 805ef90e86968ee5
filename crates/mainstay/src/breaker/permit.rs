//! Permission for one call, which counts the call when it ends.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use super::cell::Cell;
use super::core::{Admitted, Verdict, nanos};
use crate::context::RequestSummary;
use crate::{CallError, Outcome, RequestContext};

/// Permission for one call. It counts the call when it is finished or dropped.
#[derive(Debug)]
pub struct Permit {
    cell: Arc<Cell>,
    /// `None` once the call has counted.
    admitted: Option<Admitted>,
    /// Time at which the call first had to wait, in nanoseconds of the breaker's clock. A call that did not wait took no time
    /// and reads the clock once less.
    waiting_since: Option<NonZeroU64>,
    summary: Option<RequestSummary>,
}

impl Permit {
    #[inline]
    pub(super) fn new(cell: &Arc<Cell>, admitted: Admitted, context: Option<&RequestContext>) -> Self {
        let (cell, summary) = (Arc::clone(cell), context.map(RequestSummary::from));
        Self { cell, admitted: Some(admitted), waiting_since: None, summary }
    }

    /// A permit whose duration starts now.
    pub(super) fn acquire(cell: &Arc<Cell>, context: Option<&RequestContext>) -> Result<Self, CallError> {
        let admitted = cell.admit(context, false, || false)?;
        let mut permit = Self::new(cell, admitted, context);
        permit.waits();
        Ok(permit)
    }

    /// The time that the endpoint has for a probe.
    pub(super) fn probe_timeout(&self) -> Duration {
        self.cell.config().probe_timeout
    }

    /// Notes that the call has to wait, and returns how long it has waited.
    #[inline]
    pub(super) fn waits(&mut self) -> Duration {
        let now = self.cell.now();
        let since = self.waiting_since.get_or_insert(NonZeroU64::new(now).unwrap_or(NonZeroU64::MIN));
        Duration::from_nanos(now.saturating_sub(since.get()))
    }

    /// Counts the call with its outcome. Its duration starts at the first poll that had to wait; for a permit from
    /// [`BreakerHandle::try_acquire`](super::BreakerHandle::try_acquire) it starts when the permit was taken.
    pub fn finish(mut self, outcome: Outcome) {
        self.count(outcome);
    }

    #[inline]
    pub(super) fn count(&mut self, outcome: Outcome) {
        let Some(admitted) = self.admitted.take() else { return };
        let now = self.cell.now();
        let took = self.waiting_since.map_or(0, |since| now.saturating_sub(since.get()));
        let verdict = self.verdict(outcome, admitted.probe, took);
        self.cell.record(admitted, verdict, took, now, self.summary.as_ref());
    }

    /// The effect of an outcome on the breaker.
    #[inline]
    fn verdict(&self, outcome: Outcome, probe: bool, took: u64) -> Verdict {
        match outcome {
            // A refusal is an answer too: it shows that the endpoint works.
            Outcome::Success | Outcome::Refused | Outcome::ClientFault => Verdict::Good,
            Outcome::RejectedUnsent => Verdict::Unsent,
            Outcome::Unknown if self.cut_short(probe, took) => Verdict::Left,
            Outcome::FailedKnown | Outcome::Unknown => Verdict::Bad,
            // A peer that sheds some calls still serves others, and an open breaker would stop those. As the answer
            // to a probe it shows that the peer has no room for full traffic yet.
            Outcome::Throttled if probe => Verdict::Bad,
            Outcome::Cancelled if probe && took >= self.enough(probe) => Verdict::Bad,
            Outcome::Throttled | Outcome::Cancelled => Verdict::Left,
        }
    }

    /// Whether the caller's own deadline ended the call before the endpoint had [enough](Self::enough) time. Such a
    /// call shows that the caller had little time, and shows nothing of the endpoint. If it counted, one impatient
    /// caller could open the breaker for all callers or keep it open.
    fn cut_short(&self, probe: bool, took: u64) -> bool {
        took < self.enough(probe)
            && self.summary.as_ref().is_some_and(|summary| summary.deadline.has_passed())
    }

    /// Time in nanoseconds after which a missing answer counts as the endpoint's failure: `probe_timeout` for a
    /// probe, `slow_call` for other calls.
    fn enough(&self, probe: bool) -> u64 {
        if probe { nanos(self.probe_timeout()) } else { self.cell.slow_nanos() }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.admitted.is_some() {
            // A call dropped at its deadline was too slow for its caller. A call dropped earlier only lost its
            // caller.
            let late = self.summary.as_ref().is_some_and(|summary| summary.deadline.has_passed());
            self.count(if late { Outcome::Unknown } else { Outcome::Cancelled });
        }
    }
}
