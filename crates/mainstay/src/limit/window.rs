//! What the adaptive algorithms know of the recent past: one short window at a time, in a few numbers.

use std::time::Duration;

use tokio::time::Instant;

use super::algorithm::{Sample, Verdict};

/// Between which limits an adaptive algorithm moves, and what it never tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The floor. Default 4: enough to notice that things are well again.
    pub min: usize,
    /// Where it begins. Default 20, as in Netflix's concurrency-limits.
    pub start: usize,
    /// The most. Default 200, likewise.
    pub max: usize,
    /// The longest mean latency that is ever acceptable, whatever is usual. Above it the limit shrinks. Default 1 s,
    /// half the default deadline: beyond that, waiting and work together no longer fit.
    pub ceiling: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { min: 4, start: 20, max: 200, ceiling: Duration::from_secs(1) }
    }
}

impl Bounds {
    pub(super) fn clamp(&self, limit: f64) -> f64 {
        // The maximum first, so that bounds that contradict each other end at the floor, not in a panic.
        limit.min(to_f64(self.max)).max(to_f64(self.min.max(1)))
    }
}

/// A window is judged when it is this old and has [`ENOUGH`] samples: long enough for a reply or two on a local
/// network, short enough to react within a second.
const SHORTEST: Duration = Duration::from_millis(100);
/// A quiet service's window is judged at this age, however few samples it has.
const LONGEST: Duration = Duration::from_secs(1);
/// The mean of this many exponentially distributed latencies is within a tenth of the truth two times in three.
const ENOUGH: u32 = 100;

/// What one window amounted to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    /// Mean latency of what was answered, in seconds; `None` when nothing was.
    pub(super) latency: Option<f64>,
    /// Answers per second.
    pub(super) throughput: f64,
    /// Whether there was something to do all the time. If not, the throughput says nothing about the limit.
    pub(super) steady: bool,
    /// The most requests in flight at any one end of a request.
    pub(super) peak: usize,
    /// Whether anything timed out or was refused for want of room.
    pub(super) dropped: bool,
}

impl Summary {
    /// Whether the limit was in the way: a limit that is not used must not grow.
    pub(super) fn used(&self, limit: usize) -> bool {
        self.peak * 10 >= limit * 9
    }

    /// Whether the latency is beyond what is ever acceptable.
    pub(super) fn over(&self, ceiling: Duration) -> bool {
        self.latency.is_some_and(|latency| latency > ceiling.as_secs_f64())
    }
}

/// The window being filled. Fixed size; adding a sample takes constant time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    began: Option<Instant>,
    /// When the last sample left nothing in flight, if it did.
    idle_since: Option<Instant>,
    /// Whether there was for a while nothing to do.
    rested: bool,
    answered: u32,
    seconds: f64,
    peak: usize,
    dropped: bool,
}

impl Window {
    /// Adds a sample. When that completes the window, returns what it amounted to and begins a new one.
    pub(super) fn add(&mut self, sample: Sample) -> Option<Summary> {
        let began = *self.began.get_or_insert(sample.at);
        if let Some(since) = self.idle_since.take() {
            let until = sample.at.checked_sub(sample.latency).unwrap_or(sample.at);
            self.rested |= until > since;
        }
        self.idle_since = (sample.in_flight <= 1).then_some(sample.at);
        self.peak = self.peak.max(sample.in_flight);
        match sample.verdict {
            Verdict::Dropped => self.dropped = true,
            Verdict::Answered => {
                self.answered = self.answered.saturating_add(1);
                self.seconds += sample.latency.as_secs_f64();
            }
        }
        let age = sample.at.saturating_duration_since(began);
        // Bad news is not averaged, so it does not wait for company.
        let enough = self.dropped || self.answered > ENOUGH;
        if age < SHORTEST || (age < LONGEST && !enough) {
            return None;
        }
        let answered = f64::from(self.answered);
        let summary = Summary {
            latency: (self.answered > 0).then(|| self.seconds / answered),
            // A sample starts the window, so it is not part of the rate.
            throughput: (answered - 1.0).max(0.0) / age.as_secs_f64(),
            steady: !self.rested,
            peak: self.peak,
            dropped: self.dropped,
        };
        *self = Self { began: Some(sample.at), idle_since: self.idle_since, ..Self::default() };
        Some(summary)
    }
}

/// Limits are far below 2^52.
#[allow(clippy::cast_precision_loss)]
pub(super) fn to_f64(limit: usize) -> f64 {
    limit as f64
}

/// Limits are positive and bounded by `Bounds::max`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn to_usize(limit: f64) -> usize {
    limit as usize
}
