//! Finds how many requests at once the service can really use, from latency and throughput, without being told.
//!
//! Below its capacity a service's throughput follows its concurrency and its latency does not; above it the other way
//! round (Little's law). Comparing latency with a remembered baseline, as the gradient limiters of Netflix and Envoy
//! do, reacts at once, but the baseline cannot be trusted: if it follows what is observed, a service that is steadily
//! overloaded looks normal and the limit ratchets up; if it does not, a dependency that has become slower for good
//! pins the limit to its floor.
//!
//! So here the baseline only raises the suspicion, and a *probe* settles it. When latency is above the baseline's
//! tolerance, or has not been checked for a while, the limit is cut by a quarter for two windows:
//!
//! * throughput stayed: the cut part was only queueing. The lower limit is kept, and doubted again at once.
//! * throughput fell along: the concurrency was needed. The limit goes back to what it was, and the latency seen during
//!   the probe, which our own queueing cannot have caused, becomes the baseline.
//!
//! A window in which there was for a while nothing to do proves nothing, and changes nothing.
//!
//! Timeouts, drops, and a mean latency above the absolute ceiling shrink the limit by a tenth per window, probing or
//! not. It grows only when it is used, all is well and latency is near the baseline.

use std::time::Duration;

use tokio::time::Instant;

use super::algorithm::{Algorithm, Sample};
use super::window::{Bounds, Summary, Window, to_f64, to_usize};

/// Latency up to this multiple of the baseline is not suspicious. Wider than the noise of a window's mean, and it is
/// about how far above the service's capacity the limit may settle.
const TOLERANCE: f64 = 1.15;
/// The limit during a probe, as a share of the limit in doubt.
const PROBE: f64 = 0.75;
/// A probe that keeps this share of the throughput has cut nothing but queueing. Half-way between the share kept when
/// the limit was just above the capacity's (1) and when it was below it (`PROBE`).
const KEPT: f64 = 0.9;
/// What is left of the limit after a bad window.
const BACKOFF: f64 = 0.9;
/// How soon a limit that turned out to be needed may be doubted again: doubles each time it was, up to the longest,
/// so that a service at its right limit loses a hundredth of its throughput to probes; halves when it was not.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(16);
/// Weight of a new window in the averages of latency and throughput.
const NEW: f64 = 0.4;

/// Gradient of latency, checked by probes of throughput.
#[derive(Debug, Clone)]
pub struct Gradient {
    bounds: Bounds,
    limit: f64,
    window: Window,
    /// Latency that our own queueing did not cause, in seconds.
    baseline: Option<f64>,
    latency: Average,
    throughput: Average,
    phase: Phase,
    /// Not before this may a limit be probed that passed the last probe.
    next_probe: Option<Instant>,
    pause: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Track,
    /// What runs still includes what the higher limit let in.
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
    /// Within `bounds`.
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
            // Before and after a silence throughput follows the demand, and a probe would always find that it stayed.
            if let Phase::Settle { doubted, .. } | Phase::Measure { doubted, .. } = self.phase {
                self.phase = Phase::Track;
                self.move_to(doubted);
            }
            return;
        }
        let used = window.used(self.limit());
        match self.phase {
            Phase::Track => self.track(window, latency, used, now),
            // Without the demand there was before, the probe shows nothing.
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
            // With half the limit unused, what is slow is not slow because of our limit.
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

    /// Begins a probe of the present limit; not at the floor, below which there is nothing to try.
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
