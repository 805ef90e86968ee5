//! The service's hybrid clock. It adopts the times of other clocks, and flags and counts their offsets.
//!
//! A wrong wall clock breaks no invariant, so no request fails for it. The log states the offset once a minute for each
//! peer, because logs, holds and people use wall clocks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use journal::{HybridTime, Journal};
use tokio::time::Instant;

/// Offset that is flagged. Hosts that synchronise their clocks are a few milliseconds apart, a host that was paused some
/// tens.
pub const FLAGGED_MS: u64 = 500;

/// Window of one warning, and of the largest offset in the gauge.
pub const WINDOW: Duration = Duration::from_mins(1);

/// Label of the metrics for other replicas of the service, and for its own earlier entries.
const REPLICA: &str = "replica";

const OFFSET: &str = "mainstay_clock_offset_seconds";
const ADOPTIONS: &str = "mainstay_clock_adoptions_total";

/// The clocks of one service. Clones share them.
#[derive(Debug, Clone)]
pub struct Clocks {
    journal: Journal,
    /// The other service.
    peer: Arc<Source>,
    /// Other replicas of this service.
    replica: Arc<Source>,
}

/// A source of times, with the offsets of the current window.
#[derive(Debug)]
struct Source {
    name: &'static str,
    window: Mutex<Window>,
}

/// The largest offset since the window began.
#[derive(Debug)]
struct Window {
    began: Instant,
    largest_ms: u64,
    is_flagged: bool,
}

impl Window {
    fn new(began: Instant) -> Self {
        Self { began, largest_ms: 0, is_flagged: false }
    }

    /// Adds an offset, in a new window if this one is over. Returns true for the first flagged offset of a window.
    fn add(&mut self, ahead_ms: u64, now: Instant) -> bool {
        if now.duration_since(self.began) >= WINDOW {
            *self = Self::new(now);
        }
        self.largest_ms = self.largest_ms.max(ahead_ms);
        let is_first = ahead_ms >= FLAGGED_MS && !self.is_flagged;
        self.is_flagged |= is_first;
        is_first
    }
}

impl Clocks {
    /// The clock of the service that writes `journal` and exchanges times with `peer` and its own replicas. The metrics exist
    /// from now on.
    pub fn new(journal: &Journal, peer: &'static str) -> Self {
        metrics::describe_gauge!(
            OFFSET,
            metrics::Unit::Seconds,
            "The most by which the peer's hybrid time was ahead of this host's wall clock in the last minute with a message"
        );
        metrics::describe_counter!(
            ADOPTIONS,
            "Times at least half a second ahead of this host's wall clock that this service's clock adopted"
        );
        let [peer, replica] = [peer, REPLICA].map(|name| {
            metrics::gauge!(OFFSET, "peer" => name).set(0.0);
            metrics::counter!(ADOPTIONS, "peer" => name).increment(0);
            Arc::new(Source { name, window: Window::new(Instant::now()).into() })
        });
        Self { journal: journal.clone(), peer, replica }
    }

    /// Moves the service's clock past a time that the peer sent.
    pub fn adopt_peer(&self, time: HybridTime) {
        self.peer.saw(self.journal.clock().observe(time));
    }

    /// Moves the service's clock past the newest entry of a chain, which any replica may have written.
    pub fn adopt_head(&self, time: HybridTime) {
        self.replica.saw(self.journal.clock().observe(time));
    }
}

impl Source {
    fn saw(&self, ahead_ms: u64) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let before = window.largest_ms;
        let is_first = window.add(ahead_ms, Instant::now());
        let largest_ms = window.largest_ms;
        drop(window);
        if largest_ms != before {
            #[allow(clippy::cast_precision_loss, reason = "milliseconds of some millennia are below 2^53")]
            metrics::gauge!(OFFSET, "peer" => self.name).set(largest_ms as f64 / 1_000.0);
        }
        if ahead_ms >= FLAGGED_MS {
            metrics::counter!(ADOPTIONS, "peer" => self.name).increment(1);
        }
        if is_first {
            tracing::warn!(
                peer = self.name,
                offset_ms = ahead_ms,
                "hybrid clock: the peer's time is ahead of this host's wall clock and was adopted; check both hosts' clocks"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_told_once_a_minute_and_the_largest_is_kept_for_as_long() {
        let began = Instant::now();
        let mut window = Window::new(began);
        let mut add = |ahead_ms, seconds| {
            let told = window.add(ahead_ms, began + Duration::from_secs(seconds));
            (told, window.largest_ms)
        };
        assert_eq!(add(0, 0), (false, 0), "a peer that is behind adopts our time");
        assert_eq!(add(499, 1), (false, 499));
        assert_eq!(add(3_600_000, 2), (true, 3_600_000));
        assert_eq!(add(500, 3), (false, 3_600_000));
        assert_eq!(add(86_400_000, 59), (false, 86_400_000));
        assert_eq!(add(600, 60), (true, 600), "a new minute");
        assert_eq!(add(0, 200), (false, 0), "the clocks agree again");
    }
}
