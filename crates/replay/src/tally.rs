//! The counters of a replay: outcomes, and customers' waits by phase.
//!
//! A wait is measured from when a request was due, not from when it was sent, and counts in the phase in which it was
//! due. So a customer who waited for a dead service counts in the phase in which the service was dead.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use mainstay::Outcome as CallOutcome;
use uuid::Uuid;

use crate::text::is_harmless;

/// The longest recorded wait; longer waits count as this long.
const LONGEST: Duration = Duration::from_mins(10);
/// The number of failures kept with their text; all are counted.
const FAILURES_KEPT: usize = 5;

/// The outcome of an order or a return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Confirmed,
    /// Cancelled by its customer.
    Cancelled,
    /// Cancelled by a later return.
    CancelledByReturn,
    Refused,
    Expired,
    /// The returned goods are in stock again.
    PutBack,
    /// The order had been refused or had expired, so there was nothing to return.
    NothingToReturn,
    /// Given up; the reason is among the failures.
    Failed,
}

impl Outcome {
    pub const ALL: [Self; 8] = [
        Self::Confirmed,
        Self::Cancelled,
        Self::CancelledByReturn,
        Self::Refused,
        Self::Expired,
        Self::PutBack,
        Self::NothingToReturn,
        Self::Failed,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
            Self::CancelledByReturn => "cancelled by a return",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::PutBack => "put back into stock",
            Self::NothingToReturn => "return of a refused order",
            Self::Failed => "failed",
        }
    }
}

/// The waits of one phase.
#[derive(Debug, Clone)]
pub struct Waits {
    /// The time from when an order was due until its customer had any answer, a 202 included.
    pub answered: Histogram<u64>,
    /// The time from when an order was due until it was decided.
    pub decided: Histogram<u64>,
}

impl Waits {
    fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, micros(LONGEST), 3)
                .expect("1 to some hours, at three digits, is in range")
        };
        Self { answered: histogram(), decided: histogram() }
    }
}

/// The counts at one moment.
#[derive(Debug, Clone)]
pub struct Counts {
    pub planned: usize,
    pub begun: usize,
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Orders that were answered 202 and are not decided yet.
    pub waiting: usize,
    /// The number of 202 answers to any command.
    pub accepted: u64,
    /// Requests that were sent and repeated under the same key, in addition to the client stack's own retries.
    pub repeated: u64,
    /// The repeated requests whose effect was unknown.
    pub unknown: u64,
    /// Requests that this command's own limits refused unsent and tried again later.
    pub held_back: u64,
    pub failures: Vec<String>,
    /// The largest delay behind the schedule.
    pub late: Duration,
    pub phases: Vec<Waits>,
    /// An order with an instructive story: one that was answered 202, or else one that was refused.
    pub notable: Option<(Uuid, Notable)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notable {
    Refused,
    Accepted,
}

impl Counts {
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    /// The number of actions that have ended.
    pub fn over(&self) -> u64 {
        self.outcomes.values().sum()
    }
}

/// The counts, shared by all tasks of the replay.
#[derive(Debug)]
pub struct Tally {
    counts: Mutex<Counts>,
    phase: AtomicUsize,
}

impl Tally {
    pub fn new(planned: usize, phases: usize) -> Self {
        let counts = Counts {
            planned,
            begun: 0,
            outcomes: BTreeMap::new(),
            waiting: 0,
            accepted: 0,
            repeated: 0,
            unknown: 0,
            held_back: 0,
            failures: Vec::new(),
            late: Duration::ZERO,
            phases: vec![Waits::new(); phases.max(1)],
            notable: None,
        };
        Self { counts: Mutex::new(counts), phase: AtomicUsize::new(0) }
    }

    /// Begins a phase: every request that is due from now on belongs to it.
    pub fn enter(&self, phase: usize) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    pub fn phase(&self) -> usize {
        self.phase.load(Ordering::Relaxed)
    }

    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// Reads a few numbers without copying all of them.
    pub fn read<T>(&self, read: impl FnOnce(&Counts) -> T) -> T {
        read(&self.lock())
    }

    pub(crate) fn begun(&self, late: Duration) {
        let mut counts = self.lock();
        counts.begun += 1;
        counts.late = counts.late.max(late);
    }

    pub(crate) fn answered(&self, phase: usize, waited: Duration) {
        if let Some(waits) = self.lock().phases.get_mut(phase) {
            waits.answered.saturating_record(micros(waited));
        }
    }

    pub(crate) fn decided(&self, phase: usize, waited: Duration) {
        if let Some(waits) = self.lock().phases.get_mut(phase) {
            waits.decided.saturating_record(micros(waited));
        }
    }

    /// Counts a 202: the order waits until [`Tally::resolved`].
    pub(crate) fn accepted(&self, order: Option<Uuid>) {
        let mut counts = self.lock();
        counts.accepted += 1;
        counts.waiting += 1;
        counts.note(order, Notable::Accepted);
    }

    pub(crate) fn resolved(&self) {
        let mut counts = self.lock();
        counts.waiting = counts.waiting.saturating_sub(1);
    }

    pub(crate) fn refused(&self, order: Option<Uuid>) {
        self.lock().note(order, Notable::Refused);
    }

    /// Counts the repeat of a request whose last outcome was `last`.
    pub(crate) fn repeated(&self, last: CallOutcome) {
        let mut counts = self.lock();
        if last == CallOutcome::RejectedUnsent {
            counts.held_back += 1;
            return;
        }
        counts.repeated += 1;
        counts.unknown += u64::from(last == CallOutcome::Unknown);
    }

    pub(crate) fn over(&self, outcome: Outcome) {
        *self.lock().outcomes.entry(outcome).or_default() += 1;
    }

    /// Counts a failure. `why` may quote a file or a service, so unsafe characters are replaced.
    pub(crate) fn failed(&self, why: &str) {
        let why = why.replace(|c| !is_harmless(c), "\u{fffd}");
        let mut counts = self.lock();
        if counts.failures.len() < FAILURES_KEPT {
            counts.failures.push(why);
        }
        *counts.outcomes.entry(Outcome::Failed).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Every change is a single step, so a panic elsewhere leaves no half-made change.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn note(&mut self, order: Option<Uuid>, why: Notable) {
        if let Some(order) = order
            && self.notable.is_none_or(|(_, known)| known <= why)
        {
            self.notable = Some((order, why));
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// A histogram's value at a quantile as text; `-` when it is empty.
pub fn at_quantile(histogram: &Histogram<u64>, quantile: f64) -> String {
    if histogram.is_empty() {
        return "-".to_owned();
    }
    match histogram.value_at_quantile(quantile) {
        micros @ ..10_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        micros @ ..1_000_000 => format!("{} ms", micros / 1_000),
        micros => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_belong_to_the_phase_in_which_they_began() {
        let tally = Tally::new(2, 2);
        let phase = tally.phase();
        tally.enter(1);
        tally.answered(phase, Duration::from_millis(4));
        tally.answered(tally.phase(), Duration::from_secs(7));
        let counts = tally.counts();
        assert_eq!(at_quantile(&counts.phases[0].answered, 0.5), "4.0 ms");
        assert_eq!(at_quantile(&counts.phases[1].answered, 0.99), "7.0 s");
        assert_eq!(at_quantile(&counts.phases[1].decided, 0.99), "-");
    }

    #[test]
    fn an_order_that_waited_is_more_notable_than_one_that_was_refused() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let tally = Tally::new(2, 1);
        tally.accepted(Some(one));
        tally.refused(Some(two));
        assert_eq!(tally.counts().notable, Some((one, Notable::Accepted)));
        assert_eq!(tally.counts().waiting, 1);
        tally.resolved();
        assert_eq!(tally.counts().waiting, 0);
    }

    #[test]
    fn requests_that_were_never_sent_are_not_counted_as_sent_again() {
        let tally = Tally::new(1, 1);
        for last in [CallOutcome::RejectedUnsent, CallOutcome::Unknown, CallOutcome::FailedKnown] {
            tally.repeated(last);
        }
        let counts = tally.counts();
        assert_eq!((counts.held_back, counts.repeated, counts.unknown), (1, 2, 1));
    }

    #[test]
    fn all_failures_are_counted_and_the_first_five_are_kept() {
        let tally = Tally::new(10, 1);
        (0..8).for_each(|n| tally.failed(&format!("{n}\u{1b}[31m")));
        let counts = tally.counts();
        assert_eq!((counts.failures.len(), counts.of(Outcome::Failed), counts.over()), (5, 8, 8));
        assert_eq!(counts.failures[0], "0\u{fffd}[31m");
    }
}
