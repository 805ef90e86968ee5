//! Statistics of the adaptive algorithms: one short window at a time, in a few numbers.

use std::time::Duration;

use tokio::time::Instant;

use super::algorithm::{Sample, Verdict};
use crate::settings::settings;

settings! {
    /// The limits between which an adaptive algorithm moves, and the latency that it does not accept.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Bounds {
        /// The lowest limit. Default 4: enough requests to notice that the service has recovered.
        pub min: usize = 4,
        /// The first limit. Default 20, as in Netflix's concurrency-limits.
        pub start: usize = 20,
        /// The highest limit. Default 200, as in Netflix's concurrency-limits.
        pub max: usize = 200,
        /// The longest acceptable mean latency, whatever is usual. Above it the limit shrinks. Default 1 s, half of the
        /// default deadline: beyond that, waiting and work together exceed the deadline.
        pub ceiling: Duration = Duration::from_secs(1),
    }
}

impl Bounds {
    pub(super) fn clamp(&self, limit: f64) -> f64 {
        // Apply the maximum first, so that contradictory bounds end at the floor and not in a panic.
        limit.min(to_f64(self.max)).max(to_f64(self.min.max(1)))
    }
}

/// Age at which a window with [`ENOUGH`] samples is judged. It is long enough for a reply or two on a local network
/// and short enough to react within a second.
const SHORTEST: Duration = Duration::from_millis(100);
/// Age at which a window is judged whatever its number of samples, for a service with few requests.
const LONGEST: Duration = Duration::from_secs(1);
/// The mean of this many exponentially distributed latencies is within a tenth of the true mean two times in three.
const ENOUGH: u32 = 100;

/// Summary of one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    /// Mean latency of answered requests, in seconds; `None` without an answer.
    pub(super) latency: Option<f64>,
    /// Answers per second.
    pub(super) throughput: f64,
    /// Whether there was work all the time. If not, the throughput shows nothing about the limit.
    pub(super) steady: bool,
    /// The highest number of requests in flight at any end of a request.
    pub(super) peak: usize,
    /// Whether a request timed out or was refused for lack of room.
    pub(super) dropped: bool,
}

impl Summary {
    /// Whether the limit was reached: a limit that is not used must not grow.
    pub(super) fn used(&self, limit: usize) -> bool {
        self.peak * 10 >= limit * 9
    }

    /// Whether the latency is above the ceiling.
    pub(super) fn over(&self, ceiling: Duration) -> bool {
        self.latency.is_some_and(|latency| latency > ceiling.as_secs_f64())
    }
}

/// The window that is being filled. It has a fixed size, and adding a sample takes constant time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    began: Option<Instant>,
    /// Time at which the last sample left no request in flight, if it did.
    idle_since: Option<Instant>,
    /// Whether there was no work for a while.
    rested: bool,
    answered: u32,
    seconds: f64,
    peak: usize,
    dropped: bool,
}

impl Window {
    /// Adds a sample. A sample that completes the window returns its summary and begins a new window.
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
        // Timeouts and drops are not averaged, so they do not wait for more samples.
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
