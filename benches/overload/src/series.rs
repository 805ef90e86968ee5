//! Counts over time, in bins of ten milliseconds.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// Bins per second.
const BINS: f64 = 100.0;

/// Counter of events by their time. Clones share the counts.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    base: Instant,
    bins: Arc<Mutex<Vec<u32>>>,
}

impl Series {
    /// An empty series whose times count from `base`.
    pub(crate) fn new(base: Instant) -> Self {
        Self { base, bins: Arc::default() }
    }

    /// Counts one event at the present time.
    pub(crate) fn count(&self) {
        let bin = (self.base.elapsed().as_secs_f64() * BINS) as usize;
        let mut bins = self.bins.lock().unwrap_or_else(PoisonError::into_inner);
        if bins.len() <= bin {
            bins.resize(bin + 1, 0);
        }
        bins[bin] += 1;
    }

    /// Number of events from `from` to `to`, in seconds.
    pub(crate) fn between(&self, from: f64, to: f64) -> f64 {
        let bins = self.bins.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, to) = ((from * BINS).round() as usize, (to * BINS).round() as usize);
        bins.iter().take(to).skip(from).map(|count| f64::from(*count)).sum()
    }
}
