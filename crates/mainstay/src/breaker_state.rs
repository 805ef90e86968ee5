//! The states of a circuit breaker. Errors name them too, so they are there without the breaker itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a breaker, which decides the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Admits the call.
    Closed = 0,
    /// Refuses the call until the wait is over.
    Open = 1,
    /// Admits the call as a probe while the half-open period has probes left.
    HalfOpen = 2,
    /// Admits a growing share of the calls.
    Ramping = 3,
    /// Refuses the call until an operator resets the breaker.
    ForcedOpen = 4,
    /// Admits the call until an operator resets the breaker.
    ForcedClosed = 5,
}

impl BreakerState {
    /// Every state, for one-hot gauges.
    pub const ALL: [Self; 6] =
        [Self::Closed, Self::Open, Self::HalfOpen, Self::Ramping, Self::ForcedOpen, Self::ForcedClosed];

    /// The stable name in metrics, events and the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::Ramping => "ramping",
            Self::ForcedOpen => "forced-open",
            Self::ForcedClosed => "forced-closed",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
