//! An adaptive limit: finds from latency and throughput how many requests the service can use at the same time.
//!
//! Below its capacity, a service's throughput grows with its concurrency and its latency stays the same. Above its
//! capacity, latency grows and throughput stays the same (Little's law). The gradient limiters of Netflix and Envoy
//! compare latency with a remembered baseline. That reacts at once, but no baseline can be trusted. If it follows the
//! observed latency, a service that is constantly overloaded looks normal and the limit rises without end. If it does
//! not follow, a dependency that has become slower for good holds the limit at its floor.
//!
//! So here the baseline only raises a suspicion, and a *probe* decides. When latency is above the baseline's
//! tolerance, or was not checked for a while, the limit is cut by a quarter for two windows:
//!
//! * Throughput stayed the same: the cut part was only queueing. The lower limit is kept, and the next probe may
//!   begin at once.
//! * Throughput fell with the limit: the concurrency was needed. The limit returns to its old value. The latency seen
//!   during the probe, which our own queueing cannot have caused, becomes the baseline.
//!
//! A window in which there was no work for a while proves nothing and changes nothing.
//!
//! Timeouts, drops, and a mean latency above the absolute ceiling shrink the limit by a tenth per window, also during
//! a probe. The limit grows only when it is used, there is no sign of overload, and latency is near the baseline.

use std::time::Duration;

use tokio::time::Instant;

use super::algorithm::{Algorithm, Sample};
use super::window::{Bounds, Summary, Window, to_f64, to_usize};

/// Latency up to this multiple of the baseline is not suspicious. The value is wider than the noise of a window's
/// mean. It is also roughly how far above the service's capacity the limit may settle.
const TOLERANCE: f64 = 1.15;
/// The limit during a probe, as a share of the limit that is being checked.
const PROBE: f64 = 0.75;
/// The share of throughput at which a probe has cut only queueing. It lies half-way between the share kept when the
/// limit was just above the capacity (1) and the share kept when it was below (`PROBE`).
const KEPT: f64 = 0.9;
/// Share of the limit that remains after a bad window.
const BACKOFF: f64 = 0.9;
/// Shortest and longest time until a limit that proved to be needed may be probed again. The time doubles each time
/// the limit proved to be needed, so that a service at its right limit loses a hundredth of its throughput to probes.
/// It halves each time the limit proved not to be needed.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(16);
/// Weight of a new window in the averages of latency and throughput.
const NEW: f64 = 0.4;

/// The algorithm: gradient of latency, checked by probes of throughput.
#[derive(Debug, Clone)]
pub struct Gradient {
    bounds: Bounds,
    limit: f64,
    window: Window,
    /// Latency, in seconds, that our own queueing did not cause.
    baseline: Option<f64>,
    latency: Average,
    throughput: Average,
    phase: Phase,
    /// Earliest time of the next probe after a limit proved to be needed.
    next_probe: Option<Instant>,
    pause: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Track,
    /// The requests in flight still include some that the higher limit admitted.
    Settle {
        doubted: f64,
        throughput: f64,
    },
    Measure {
        doubted: f64,
        throughput: f64,
    },
}

impl Gradient {
    /// An algorithm that stays within `bounds`.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            limit: bounds.clamp(to_f64(bounds.start)),
            bounds,
            window: Window::default(),
            baseline: None,
            latency: Average::default(),
            throughput: Average::default(),
            phase: Phase::Track,
            next_probe: None,
            pause: SOONEST,
        }
    }

    fn judge(&mut self, window: &Summary, now: Instant) {
        if window.dropped || window.over(self.bounds.ceiling) {
            self.phase = Phase::Track;
            self.move_to(self.limit * BACKOFF);
            return;
        }
        let Some(latency) = window.latency else { return };
        if !window.steady {
            // Before and after an idle period throughput follows the demand, and a probe would always find that it
            // stayed the same.
            if let Phase::Settle { doubted, .. } | Phase::Measure { doubted, .. } = self.phase {
                self.phase = Phase::Track;
                self.move_to(doubted);
            }
            return;
        }
        let used = window.used(self.limit());
        match self.phase {
            Phase::Track => self.track(window, latency, used, now),
            // Without the earlier demand, the probe shows nothing.
            Phase::Settle { doubted, .. } | Phase::Measure { doubted, .. } if !used => {
                self.phase = Phase::Track;
                self.move_to(doubted);
            }
            Phase::Settle { doubted, throughput } => self.phase = Phase::Measure { doubted, throughput },
            Phase::Measure { doubted, throughput } => {
                self.phase = Phase::Track;
                self.baseline = Some(latency);
                if window.throughput >= throughput * KEPT {
                    self.pause = (self.pause / 2).max(SOONEST);
                    self.probe(throughput.max(window.throughput));
                } else {
                    self.next_probe = Some(now + self.pause);
                    self.pause = (self.pause * 2).min(LATEST);
                    self.move_to(doubted);
                }
                self.latency = Average(Some(latency));
            }
        }
    }

    fn track(&mut self, window: &Summary, latency: f64, used: bool, now: Instant) {
        let latency = self.latency.add(latency);
        let throughput = self.throughput.add(window.throughput);
        let baseline = *self.baseline.get_or_insert(latency);
        if latency < baseline || window.peak * 2 <= self.limit() {
            // Half of the limit is unused, so our limit does not cause the latency.
            self.baseline = Some(baseline + (latency - baseline) * NEW);
        }
        if !used {
            return;
        }
        let suspicious = latency > baseline * TOLERANCE;
        let due = self.next_probe.is_none_or(|at| now >= at);
        let doubted = suspicious || self.next_probe.is_some();
        if due && doubted && self.probe(throughput) {
            // The probe has changed the limit already.
        } else if !suspicious {
            self.next_probe.get_or_insert(now + self.pause);
            self.move_to(self.limit + self.limit.sqrt() / 2.0);
        }
    }

    /// Begins a probe of the current limit, except at the floor, below which the limit cannot go.
    fn probe(&mut self, throughput: f64) -> bool {
        let doubted = self.limit;
        self.move_to(doubted * PROBE);
        let begun = self.limit < doubted;
        if begun {
            self.phase = Phase::Settle { doubted, throughput };
        }
        begun
    }

    fn move_to(&mut self, limit: f64) {
        self.limit = self.bounds.clamp(limit);
        self.throughput = Average::default();
    }
}

impl Default for Gradient {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Algorithm for Gradient {
    fn limit(&self) -> usize {
        to_usize(self.limit)
    }

    fn observe(&mut self, sample: Sample) -> usize {
        if let Some(window) = self.window.add(sample) {
            self.judge(&window, sample.at);
        }
        self.limit()
    }

    fn name(&self) -> &'static str {
        "gradient"
    }
}

/// An exponentially weighted average.
#[derive(Debug, Clone, Copy, Default)]
struct Average(Option<f64>);

impl Average {
    fn add(&mut self, value: f64) -> f64 {
        let average = self.0.map_or(value, |old| old + (value - old) * NEW);
        self.0 = Some(average);
        average
    }
}
