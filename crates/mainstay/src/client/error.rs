//! Why a call brought no reply. Each variant says what is known about the effect and what remains.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::breaker::BreakerState;
use crate::classify::{HasOutcome, Summary};
use crate::{Endpoint, Outcome};

/// The underlying cause, shared so that the error can be cloned.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// A call that ended without a reply, or whose replies left its effect open. Match on it; [`CallError::outcome`] says
/// what became of the call, which is what a write's caller must act on.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The circuit breaker let nothing through. Not sent.
    #[error("circuit breaker of {endpoint} is {state}, for another {:?}", rounded(*open_for))]
    BreakerRejected {
        /// Whose breaker.
        endpoint: Endpoint,
        /// Open, half-open with every probe taken, ramping, or forced open.
        state: BreakerState,
        /// How long until it may let a call through; zero when that depends on calls in flight or an operator.
        open_for: Duration,
    },
    /// As many calls to the peer as allowed are in flight. Not sent.
    #[error("{limit} calls to {peer} are in flight, the limit of its bulkhead")]
    BulkheadFull {
        /// The dependency.
        peer: Arc<str>,
        /// The limit.
        limit: usize,
    },
    /// The peer has refused so much lately that this call was not sent.
    #[error("calls to {peer} are held back: it refused {refused} of the last {requests}")]
    HeldBack {
        /// The dependency.
        peer: Arc<str>,
        /// Calls it throttled in the window.
        refused: u64,
        /// Calls in the window.
        requests: u64,
    },
    /// Too little time was left to begin. Not sent.
    #[error("{:?} left before the deadline, less than the {needed:?} a call needs", rounded(*left))]
    DeadlineTooNear {
        /// Time left, after this hop's reserve.
        left: Duration,
        /// The least that was asked for.
        needed: Duration,
    },
    /// The request cannot be sent as it is. Not sent.
    #[error("the request cannot be sent: {reason}")]
    InvalidRequest {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No connection could be made. Nothing was sent, so nothing happened.
    #[error("no connection to {endpoint}: {}", Chain(cause))]
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// What the transport said.
        cause: Cause,
    },
    /// One attempt took its whole time. It may have happened.
    #[error("no reply within {:?}", rounded(*after))]
    AttemptTimedOut {
        /// How long it was given.
        after: Duration,
    },
    /// The whole call took its whole time. It may have happened.
    #[error("the deadline passed after {:?}", rounded(*after))]
    DeadlineExceeded {
        /// How long the call had.
        after: Duration,
    },
    /// The connection failed, or the reply was cut or unreadable. It may have happened.
    #[error("connection to {endpoint} lost: {}", Chain(cause))]
    ConnectionLost {
        /// Where to.
        endpoint: Endpoint,
        /// What the transport said.
        cause: Cause,
    },
    /// The reply's body was larger than the transport accepts. It may have happened.
    #[error("the reply is larger than {limit} bytes")]
    ReplyTooLarge {
        /// The cap.
        limit: usize,
    },
    /// A reply came, and the caller's [`ReplyReader`](super::ReplyReader) cannot read it. It may have happened.
    #[error("{reply}, which cannot be read: {reason}")]
    UnreadableReply {
        /// The reply's status.
        reply: Summary,
        /// What the reader says.
        reason: String,
        /// How long the reply asks to leave the peer alone.
        retry_after: Option<Duration>,
    },
    /// An earlier attempt may have happened, and no later one settled it: the whole is unknown, whatever the
    /// last attempt said of itself.
    #[error("attempt {attempt} of {attempts} may have taken effect, and the last ended with: {last}")]
    EarlierAttemptUnknown {
        /// The first attempt whose effect is unknown, from 1.
        attempt: u32,
        /// How many were made.
        attempts: u32,
        /// How the last one ended.
        last: Summary,
        /// How long the last one asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Any other failure of a transport. It may have happened.
    #[error("transport failed: {}", Chain(.0))]
    Transport(Cause),
}

/// To whole milliseconds, or to microseconds below one: more digits say nothing to a reader.
fn rounded(span: Duration) -> Duration {
    match span.as_micros() {
        micros @ ..1_000 => Duration::from_micros(u64::try_from(micros).unwrap_or(0)),
        _ => Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// A cause with the causes of it: transports keep the telling part (`Connection refused`) innermost.
struct Chain<'a>(&'a Cause);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

impl CallError {
    /// What is known about the call's effect.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::BreakerRejected { .. }
            | Self::BulkheadFull { .. }
            | Self::HeldBack { .. }
            | Self::DeadlineTooNear { .. } => Outcome::RejectedUnsent,
            Self::InvalidRequest { .. } => Outcome::ClientFault,
            Self::Connect { .. } => Outcome::FailedKnown,
            Self::AttemptTimedOut { .. }
            | Self::DeadlineExceeded { .. }
            | Self::ConnectionLost { .. }
            | Self::ReplyTooLarge { .. }
            | Self::UnreadableReply { .. }
            | Self::EarlierAttemptUnknown { .. }
            | Self::Transport(_) => Outcome::Unknown,
        }
    }

    /// How long to leave the peer alone, where that is known.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::BreakerRejected { open_for, .. } if !open_for.is_zero() => Some(*open_for),
            Self::UnreadableReply { retry_after, .. } | Self::EarlierAttemptUnknown { retry_after, .. } => {
                *retry_after
            }
            Self::BreakerRejected { .. }
            | Self::BulkheadFull { .. }
            | Self::HeldBack { .. }
            | Self::DeadlineTooNear { .. }
            | Self::InvalidRequest { .. }
            | Self::Connect { .. }
            | Self::AttemptTimedOut { .. }
            | Self::DeadlineExceeded { .. }
            | Self::ConnectionLost { .. }
            | Self::ReplyTooLarge { .. }
            | Self::Transport(_) => None,
        }
    }

    /// Where the call was going, where the layer that failed knows it.
    pub const fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::BreakerRejected { endpoint, .. }
            | Self::Connect { endpoint, .. }
            | Self::ConnectionLost { endpoint, .. } => Some(endpoint),
            Self::BulkheadFull { .. }
            | Self::HeldBack { .. }
            | Self::DeadlineTooNear { .. }
            | Self::InvalidRequest { .. }
            | Self::AttemptTimedOut { .. }
            | Self::DeadlineExceeded { .. }
            | Self::ReplyTooLarge { .. }
            | Self::UnreadableReply { .. }
            | Self::EarlierAttemptUnknown { .. }
            | Self::Transport(_) => None,
        }
    }

    /// The stable name of the variant, for metrics and events.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::BreakerRejected { .. } => "breaker-rejected",
            Self::BulkheadFull { .. } => "bulkhead-full",
            Self::HeldBack { .. } => "held-back",
            Self::DeadlineTooNear { .. } => "deadline-too-near",
            Self::InvalidRequest { .. } => "invalid-request",
            Self::Connect { .. } => "connect",
            Self::AttemptTimedOut { .. } => "attempt-timed-out",
            Self::DeadlineExceeded { .. } => "deadline-exceeded",
            Self::ConnectionLost { .. } => "connection-lost",
            Self::ReplyTooLarge { .. } => "reply-too-large",
            Self::UnreadableReply { .. } => "unreadable-reply",
            Self::EarlierAttemptUnknown { .. } => "earlier-attempt-unknown",
            Self::Transport(_) => "transport",
        }
    }
}

impl HasOutcome for CallError {
    fn outcome(&self) -> Outcome {
        Self::outcome(self)
    }

    fn settles_earlier(&self) -> bool {
        false
    }

    fn retry_after(&self) -> Option<Duration> {
        Self::retry_after(self)
    }

    fn summary(&self) -> Summary {
        Summary::Error(self.to_string())
    }
}

/// A transport's own error, when it says nothing about the effect.
impl From<tower::BoxError> for CallError {
    fn from(cause: tower::BoxError) -> Self {
        match cause.downcast::<Self>() {
            Ok(ours) => *ours,
            Err(other) => Self::Transport(other.into()),
        }
    }
}

/// A transport that cannot fail.
impl From<std::convert::Infallible> for CallError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_no_more_digits_of_a_time_than_a_reader_needs() {
        let message = |after| CallError::DeadlineExceeded { after }.to_string();
        let nanos = Duration::from_nanos;
        assert_eq!(message(nanos(974_556_534)), "the deadline passed after 974ms");
        assert_eq!(message(nanos(1_500_400_000)), "the deadline passed after 1.5s");
        assert_eq!(message(nanos(4_999)), "the deadline passed after 4µs");
    }
}
