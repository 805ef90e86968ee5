//! Additive increase, multiplicative decrease: the limit grows by a little while requests succeed and the limit is
//! reached. It shrinks by a tenth for each window with a timeout, a drop, or a mean latency above the ceiling.
//!
//! The algorithm is simple and stable, but it learns only from failure: the limit grows until a request fails or the
//! ceiling is reached. Prefer [`Gradient`](super::Gradient) unless timeouts are cheap. Steps are per window and not
//! per request, so a burst of a hundred timeouts is one step down, and fast traffic does not raise the limit faster
//! than slow traffic.

use super::algorithm::{Algorithm, Sample};
use super::window::{Bounds, Window, to_f64, to_usize};

/// Share of the limit that remains after a bad window; the value of Netflix's `AIMDLimit`.
const BACKOFF: f64 = 0.9;

/// The algorithm: additive increase, multiplicative decrease.
#[derive(Debug, Clone)]
pub struct Aimd {
    bounds: Bounds,
    limit: f64,
    window: Window,
}

impl Aimd {
    /// An algorithm that stays within `bounds`.
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
