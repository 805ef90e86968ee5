//! The decision trail: the middleware's decisions about one request, with their reasons. It is kept with the request,
//! so that a handler can store it with the request's result.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

/// One decision of one layer. All text is `Cow`, so that a usual decision allocates nothing for names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The layer: `retry`, `circuit_breaker`, `deadline`, `load_shed`, …
    pub layer: Cow<'static, str>,
    /// The decision: `admit`, `reject`, `retry`, `give_up`, `trip`, …
    pub action: Cow<'static, str>,
    /// The rule and the observed value: `failures 12 of 20 >= 50%`.
    pub why: Cow<'static, str>,
    /// Number of the attempt, from 1; 0 when the decision is about the whole call.
    pub attempt: u32,
    /// The endpoint or dependency, if any.
    pub endpoint: Option<Cow<'static, str>>,
    /// Milliseconds left to the deadline at the time of the decision, if there was a deadline.
    pub deadline_left_ms: Option<u64>,
    /// Milliseconds since the trail began.
    pub at_ms: u64,
}

/// The shared, bounded list of a request's decisions. Clones share one list. No lock is held across an await.
#[derive(Debug, Clone)]
pub struct DecisionTrail(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: tokio::time::Instant,
    decisions: Mutex<Vec<Decision>>,
    calls: Mutex<Option<PeerCalls>>,
}

/// Calls to another service for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCalls {
    /// Name of the service that was called last.
    pub peer: Cow<'static, str>,
    /// Outcome of the last call.
    pub outcome: Cow<'static, str>,
    /// Time of all calls together, retries included.
    pub total: Duration,
}

impl DecisionTrail {
    /// Maximum number of decisions that are kept; later ones are dropped. Three attempts through every layer stay well below it,
    /// so only a defect could reach it.
    pub const MAX: usize = 64;

    /// An empty trail that begins now. Until the first decision it allocates only its own handle.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            began: tokio::time::Instant::now(),
            decisions: Mutex::default(),
            calls: Mutex::default(),
        }))
    }

    /// Adds a decision and sets its `at_ms`.
    pub fn push(&self, mut decision: Decision) {
        decision.at_ms =
            u64::try_from(crate::clock::now().saturating_duration_since(self.0.began).as_millis())
                .unwrap_or(u64::MAX);
        let mut decisions = self.0.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        if decisions.len() < Self::MAX {
            decisions.push(decision);
        }
    }

    /// Notes that a call to `peer` has ended.
    pub fn called(
        &self,
        peer: impl Into<Cow<'static, str>>,
        outcome: impl Into<Cow<'static, str>>,
        took: Duration,
    ) {
        let mut calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let before = calls.as_ref().map_or(Duration::ZERO, |calls| calls.total);
        *calls = Some(PeerCalls { peer: peer.into(), outcome: outcome.into(), total: before + took });
    }

    /// The calls so far; `None` when there was none.
    pub fn calls(&self) -> Option<PeerCalls> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The decisions so far as a JSON list; `None` when there are none.
    pub(crate) fn to_json(&self) -> Option<String> {
        let decisions = self.0.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        (!decisions.is_empty()).then(|| serde_json::to_string(&*decisions).ok()).flatten()
    }

    /// The decisions so far, oldest first.
    pub fn snapshot(&self) -> Vec<Decision> {
        self.0.decisions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The decisions so far, as a list.
impl Serialize for DecisionTrail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.decisions.lock().unwrap_or_else(PoisonError::into_inner).serialize(serializer)
    }
}

impl Default for DecisionTrail {
    fn default() -> Self {
        Self::new()
    }
}
