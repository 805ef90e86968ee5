//! Errors of a call. Each variant documents the known effect and the remaining facts.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::breaker_state::BreakerState;
use crate::classify::{HasOutcome, Summary};
use crate::{Endpoint, Outcome};

/// The underlying cause, shared so that the error can be cloned.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Error of a call that ended without a reply, or whose replies left its effect unknown. Match on it;
/// [`CallError::outcome`] returns the outcome, which the caller of a write must handle.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The circuit breaker refused the call. Not sent.
    #[error("circuit breaker of {endpoint} is {state}{}", OpenFor(*open_for))]
    BreakerRejected {
        /// Endpoint of the breaker.
        endpoint: Endpoint,
        /// Open, half-open with every probe taken, ramping, or forced open.
        state: BreakerState,
        /// Time until it may admit a call; zero when that depends on calls in flight or an operator.
        open_for: Duration,
    },
    /// The bulkhead's limit of calls to the peer in flight is reached. Not sent.
    #[error("{limit} calls to {peer} are in flight, which is the bulkhead's limit")]
    BulkheadFull {
        /// The dependency.
        peer: Arc<str>,
        /// The limit.
        limit: usize,
    },
    /// The throttle held the call back, because the peer has recently throttled too many calls. Not sent.
    #[error("calls to {peer} are held back: {peer} throttled {refused} of the last {requests}")]
    HeldBack {
        /// The dependency.
        peer: Arc<str>,
        /// Calls in the window that the peer throttled.
        refused: u64,
        /// Calls in the window.
        requests: u64,
    },
    /// Too little time was left to begin. Not sent.
    #[error("{:?} left before the deadline, less than the {needed:?} a call needs", rounded(*left))]
    DeadlineTooNear {
        /// Time left, after this hop's reserve.
        left: Duration,
        /// Time that the call needs at least.
        needed: Duration,
    },
    /// The request cannot be sent as it is. Not sent.
    #[error("the request cannot be sent: {reason}")]
    InvalidRequest {
        /// The fault in the request.
        reason: &'static str,
    },
    /// No connection could be made. Nothing was sent, so the call had no effect.
    #[error("no connection to {endpoint}: {}", Chain(cause))]
    Connect {
        /// The target of the call.
        endpoint: Endpoint,
        /// The transport's error.
        cause: Cause,
    },
    /// One attempt reached its timeout. The call may have had its effect.
    #[error("no reply within {:?}", rounded(*after))]
    AttemptTimedOut {
        /// Time that the attempt had.
        after: Duration,
    },
    /// The whole call reached its deadline. The call may have had its effect.
    #[error("the deadline passed after {:?}", rounded(*after))]
    DeadlineExceeded {
        /// Time that the call had.
        after: Duration,
    },
    /// The connection failed, or the reply was cut or malformed. The call may have had its effect.
    #[error("connection to {endpoint} lost: {}", Chain(cause))]
    ConnectionLost {
        /// The target of the call.
        endpoint: Endpoint,
        /// The transport's error.
        cause: Cause,
    },
    /// The reply's body was larger than the transport accepts. The call may have had its effect.
    #[error("the reply is larger than {limit} bytes")]
    ReplyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A reply arrived that the caller's `client::ReplyReader` cannot read. The call may have had its
    /// effect.
    #[error("reply with {reply} cannot be read: {reason}")]
    UnreadableReply {
        /// The reply's status.
        reply: Summary,
        /// The reader's reason.
        reason: String,
        /// Time to wait before the next call, as the reply asks.
        retry_after: Option<Duration>,
    },
    /// An earlier attempt may have had its effect, and no later one settled it. The outcome is unknown, whatever
    /// the last attempt reported of itself.
    #[error("attempt {attempt} of {attempts} may have taken effect, and the last ended with: {last}")]
    EarlierAttemptUnknown {
        /// The first attempt whose effect is unknown, from 1.
        attempt: u32,
        /// Number of attempts made.
        attempts: u32,
        /// End of the last attempt.
        last: Summary,
        /// Time to wait before the next call, as the last attempt asks.
        retry_after: Option<Duration>,
    },
    /// Any other failure of a transport. The call may have had its effect.
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

/// The remaining time of an open breaker; nothing when calls in flight or an operator decide when it ends.
struct OpenFor(Duration);

impl std::fmt::Display for OpenFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_zero() { Ok(()) } else { write!(f, ", for another {:?}", rounded(self.0)) }
    }
}

/// An error with its causes: transports keep the useful part (`Connection refused`) innermost.
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
    /// The call's effect, as far as it is known.
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

    /// Time to wait before the next call, where it is known.
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

    /// The target of the call, where the layer that failed knows it.
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
        Summary::Text(self.to_string())
    }
}

/// A transport's own error without information about the effect.
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
