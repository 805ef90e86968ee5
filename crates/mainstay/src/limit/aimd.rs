//! Additive increase, multiplicative decrease: a little more while all is well and the limit is in the way, a tenth
//! less for each window with a timeout, a drop, or a mean latency above the ceiling.
//!
//! Simple and stable, but it only learns from failure: it grows until something breaks or the ceiling is reached.
//! Prefer [`Gradient`](super::Gradient) unless timeouts are cheap. Steps are per window and not per request, so a
//! burst of a hundred timeouts is one step down, and fast traffic does not climb faster than slow traffic.

use super::algorithm::{Algorithm, Sample};
use super::window::{Bounds, Window, to_f64, to_usize};

/// What is left of the limit after a bad window; the value of Netflix's `AIMDLimit`.
const BACKOFF: f64 = 0.9;

/// Additive increase, multiplicative decrease.
#[derive(Debug, Clone)]
pub struct Aimd {
    bounds: Bounds,
    limit: f64,
    window: Window,
}

impl Aimd {
    /// Within `bounds`.
    pub fn new(bounds: Bounds) -> Self {
        Self { limit: bounds.clamp(to_f64(bounds.start)), bounds, window: Window::default() }
    }
}

impl Default for Aimd {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl Algorithm for Aimd {
    fn limit(&self) -> usize {
        to_usize(self.limit)
    }

    fn observe(&mut self, sample: Sample) -> usize {
        if let Some(window) = self.window.add(sample) {
            let next = if window.dropped || window.over(self.bounds.ceiling) {
                self.limit * BACKOFF
            } else if window.used(self.limit()) {
                self.limit + 1.0
            } else {
                self.limit
            };
            self.limit = self.bounds.clamp(next);
        }
        self.limit()
    }

    fn name(&self) -> &'static str {
        "aimd"
    }
}
