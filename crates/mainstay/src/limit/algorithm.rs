//! The trait that decides the limit, so that a fixed limit and an adaptive one are used in the same way.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// The end of one admitted request, from the limit's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The request was answered; its latency is evidence of load.
    Answered,
    /// The request timed out, or was refused for lack of room: a sign of overload whatever its latency.
    Dropped,
}

/// One observation. It is made when the reply's head is ready and not when its body ends, because a client that reads
/// slowly is not load.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Time from admission to reply, without time in the queue.
    pub latency: Duration,
    /// Requests in flight when this one ended, itself included.
    pub in_flight: usize,
    /// End of the request.
    pub verdict: Verdict,
    /// Time at which the request ended.
    pub at: Instant,
}

/// An algorithm that decides the concurrency limit. It is called under the limiter's lock, so it must not allocate or
/// block and must take constant time.
pub trait Algorithm: Debug + Send + 'static {
    /// The current limit; at least 1.
    fn limit(&self) -> usize;

    /// Learns from one request and returns the new limit.
    fn observe(&mut self, sample: Sample) -> usize;

    /// The algorithm's stable name, for logs and snapshots.
    fn name(&self) -> &'static str;
}

/// A limit that does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed(usize);

impl Fixed {
    /// `limit` requests at the same time; 0 is taken as 1.
    pub fn new(limit: usize) -> Self {
        Self(limit.max(1))
    }
}

impl Algorithm for Fixed {
    fn limit(&self) -> usize {
        self.0
    }

    fn observe(&mut self, _: Sample) -> usize {
        self.0
    }

    fn name(&self) -> &'static str {
        "fixed"
    }
}
