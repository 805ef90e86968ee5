//! The vocabulary for the outcome of a call. Retry, breaker, hedge, limiter, metrics and logs all use it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A call's effect at the peer, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The peer executed the call and confirmed it.
    Success,
    /// The peer understood the call and refused it (404, 409, 410, 412, 422). It is a definite answer and no failure
    /// of the peer.
    Refused,
    /// The call was not sent: breaker open, limit reached, budget spent, deadline too near.
    RejectedUnsent,
    /// The call failed and certainly had no effect: no connection, or the peer answered `not-executed`.
    FailedKnown,
    /// The call may or may not have had its effect: no reply, a cut or unreadable reply, or a 5xx without
    /// `X-Outcome`.
    Unknown,
    /// The peer had no room for the call and did not execute it (429, or 503 with `not-executed`).
    Throttled,
    /// Our own caller left before the answer arrived.
    Cancelled,
    /// The request itself was wrong (400, 401, 403, 405, 413, 415): sending it again cannot help.
    ClientFault,
}

impl Outcome {
    /// Every outcome, for one-hot metrics and exhaustive tests.
    pub const ALL: [Self; 8] = [
        Self::Success,
        Self::Refused,
        Self::RejectedUnsent,
        Self::FailedKnown,
        Self::Unknown,
        Self::Throttled,
        Self::Cancelled,
        Self::ClientFault,
    ];

    /// The stable name in metrics, logs and journal evidence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::RejectedUnsent => "rejected-unsent",
            Self::FailedKnown => "failed-known",
            Self::Unknown => "unknown",
            Self::Throttled => "throttled",
            Self::Cancelled => "cancelled",
            Self::ClientFault => "client-fault",
        }
    }

    /// Whether the peer's state after the call is known.
    pub const fn is_definite(self) -> bool {
        !matches!(self, Self::Unknown | Self::Cancelled)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
