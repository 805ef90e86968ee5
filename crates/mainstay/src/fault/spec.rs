//! The specification of a fault, as an operator writes it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::problem::Effect;

/// One fault at one point. As JSON: `{"fault": "latency", "ms": 400, "probability": 0.5, "for_ms": 60000}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultSpec {
    /// The effect on the calls that are hit.
    #[serde(flatten)]
    pub fault: Fault,
    /// Share of calls that are hit, above 0.0 and up to 1.0. Default 1.0, every call.
    #[serde(default = "always")]
    pub probability: f64,
    /// Number of hits after which the fault ends. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Milliseconds after which the fault ends, at most a day. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// Method of the calls that are hit. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Prefix of the paths that are hit. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
}

/// The faults of a network or a peer that can be injected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// The call begins late.
    Latency {
        /// Milliseconds that every hit call waits; at most 10 minutes.
        ms: u64,
        /// Further milliseconds at most, drawn evenly.
        #[serde(default)]
        jitter_ms: u64,
    },
    /// The call is not made. With a status, the reply has that status and a problem document. Without one, a client
    /// sees a refused connection, and a server closes the connection.
    Error {
        /// 400 to 599.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The reply's `X-Outcome`. Default: none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        effect: Option<Effect>,
    },
    /// The call is not made, and no answer arrives.
    Hang,
    /// The call is made and takes effect; then the reply is lost.
    ReplyLost {
        /// `reset` (default): the connection closes. `hang`: no answer arrives.
        #[serde(default)]
        how: Loss,
    },
    /// The call is made and takes effect; the reply keeps its status, and its body is garbage.
    Garbage,
}

/// The way in which a reply is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// The connection closes.
    #[default]
    Reset,
    /// No answer arrives.
    Hang,
}

fn always() -> f64 {
    1.0
}

/// Error: the fault cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No fault point has this name.
    #[error("no fault point is called {name:?}; there are: {}", known.join(", "))]
    UnknownPoint {
        /// The name that was given.
        name: String,
        /// The existing names.
        known: Vec<String>,
    },
    /// A value is out of its range.
    #[error("{field} must be {range}")]
    OutOfRange {
        /// Name of the value.
        field: &'static str,
        /// The valid range.
        range: &'static str,
    },
}

const TEN_MINUTES: u64 = 600_000;
const DAY: u64 = 86_400_000;

impl FaultSpec {
    /// A fault that hits every call until it is removed.
    pub fn always(fault: Fault) -> Self {
        Self { fault, probability: 1.0, times: None, for_ms: None, method: None, path_prefix: None }
    }

    /// The same fault, for the first `times` calls only.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Checks every range.
    pub fn validate(&self) -> Result<(), FaultError> {
        let check = |holds: bool, field, range| {
            if holds { Ok(()) } else { Err(FaultError::OutOfRange { field, range }) }
        };
        let share = self.probability > 0.0 && self.probability <= 1.0;
        check(share, "probability", "above 0.0, at most 1.0")?;
        check(self.times != Some(0), "times", "at least 1")?;
        check(self.for_ms.is_none_or(|ms| (1..=DAY).contains(&ms)), "for_ms", "1 to 86,400,000")?;
        match &self.fault {
            Fault::Latency { ms, jitter_ms } => {
                check(*ms <= TEN_MINUTES, "ms", "at most 600,000")?;
                check(*jitter_ms <= TEN_MINUTES, "jitter_ms", "at most 600,000")
            }
            Fault::Error { status, .. } => {
                check(status.is_none_or(|s| (400..600).contains(&s)), "status", "400 to 599")
            }
            Fault::Hang | Fault::ReplyLost { .. } | Fault::Garbage => Ok(()),
        }
    }

    pub(super) fn lasts(&self) -> Option<Duration> {
        self.for_ms.map(Duration::from_millis)
    }
}

impl Fault {
    /// The stable name, as in the JSON.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Error { .. } => "error",
            Self::Hang => "hang",
            Self::ReplyLost { .. } => "reply-lost",
            Self::Garbage => "garbage",
        }
    }
}
