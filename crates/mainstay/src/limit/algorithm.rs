//! What the limit should be: one trait, so that a fixed limit and an adaptive one are used alike.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// How one admitted request went, as far as the limit is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was answered; its latency says something about load.
    Answered,
    /// It timed out, or was answered with a refusal for want of room: a sign of overload whatever its latency.
    Dropped,
}

/// One observation, made when the reply's head is ready (not when its body ends: a slow reader is not load).
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// From admission to reply, without time spent in the queue.
    pub latency: Duration,
    /// Requests in flight when this one ended, itself included.
    pub in_flight: usize,
    /// How it went.
    pub verdict: Verdict,
    /// When it ended.
    pub at: Instant,
}

/// Decides the concurrency limit. Called under the limiter's lock: no allocation, no blocking, constant time.
pub trait Algorithm: Debug + Send + 'static {
    /// The limit now; at least 1.
    fn limit(&self) -> usize;

    /// Learns from one request and returns the limit from now on.
    fn observe(&mut self, sample: Sample) -> usize;

    /// Its stable name, for logs and snapshots.
    fn name(&self) -> &'static str;
}

/// A limit that never moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed(usize);

impl Fixed {
    /// `limit` requests at once; 0 is taken as 1.
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
