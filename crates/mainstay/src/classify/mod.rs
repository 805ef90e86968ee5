//! The single classification of a reply or an error. Every layer uses its verdict, so that the retry, the breaker's
//! counts and the log agree.
//!
//! A reply is classified by its status and its `X-Outcome` header (which mirrors the problem document), and not by
//! its body. The body is left to a typed client's [`ReplyReader`](crate::client::ReplyReader), which can only lower a
//! verdict to unknown. In the assembled stack the classification happens once for each attempt, and the verdict
//! travels with the reply as [`Classified`]. A layer used alone classifies a plain [`Response`](::http::Response) with
//! the same function.
//!
//! [`Http`] is the classifier of the stacks. Services that are not HTTP have [classifiers](Classify) of their own.

mod classifier;
mod http;
mod reply;

use std::time::Duration;

use ::http::StatusCode;

pub use self::classifier::{ByFn, Classify, Outer, Plain, ReadRequest};
pub use self::http::Http;
pub use self::reply::{effect, reply, retry_after};
use crate::Outcome;

/// A result whose outcome a layer can read.
pub trait HasOutcome {
    /// The outcome of the call.
    fn outcome(&self) -> Outcome;
    /// Whether this also settles an earlier attempt with the same idempotency key. A 409 or 425 without `X-Outcome`
    /// may mean that the earlier attempt is still in progress (as in the IETF's draft on the header).
    fn settles_earlier(&self) -> bool;
    /// Time to wait before the next call, as the peer or the refusing layer asks.
    fn retry_after(&self) -> Option<Duration>;
    /// A short text for events and the decision trail.
    fn summary(&self) -> Summary;
}

/// A result in short: the reply's status or a text. Built only when an event needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Summary {
    /// Status of the peer's reply.
    Status(StatusCode),
    /// Text of an error, or another result in words.
    Text(String),
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {}", status.as_u16()),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The outcome of a call, from its reply or its error.
///
/// ```
/// use mainstay::{CallError, Outcome, classify};
///
/// let result: Result<http::Response<()>, CallError> = Ok(http::Response::new(()));
/// assert_eq!(classify::outcome(&result), Outcome::Success);
/// ```
pub fn outcome<R: HasOutcome, E: HasOutcome>(result: &Result<R, E>) -> Outcome {
    match result {
        Ok(reply) => reply.outcome(),
        Err(error) => error.outcome(),
    }
}

/// A reply with its verdict.
#[derive(Debug, Clone)]
pub struct Classified<R> {
    /// The verdict.
    pub outcome: Outcome,
    /// The reply.
    pub reply: R,
}

impl<R: HasOutcome> Classified<R> {
    /// Classifies the reply, once.
    pub fn read(reply: R) -> Self {
        Self { outcome: reply.outcome(), reply }
    }
}

impl<R: HasOutcome> HasOutcome for Classified<R> {
    fn outcome(&self) -> Outcome {
        self.outcome
    }

    fn settles_earlier(&self) -> bool {
        self.reply.settles_earlier()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.reply.retry_after()
    }

    fn summary(&self) -> Summary {
        self.reply.summary()
    }
}
