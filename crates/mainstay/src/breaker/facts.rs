//! The facts that calls and operators give to the state machine, and those that it returns.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::BreakerState;

/// The effect of one finished call on the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Bad,
    /// The call was sent and gave no evidence: the caller left before the answer.
    Left,
    /// The call was not sent.
    Unsent,
}

/// The end of a call: its verdict and its duration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) verdict: Verdict,
    /// Duration in nanoseconds.
    pub(crate) took: u64,
    /// Whether the call took at least `slow_call`.
    pub(crate) is_slow: bool,
}

/// Permission to make one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(super) generation: u64,
    pub(crate) probe: bool,
    /// Whether the call repeats work that has failed before; such a call does not count against the endpoint.
    pub(super) repeated: bool,
}

/// A refusal: the state that refused the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) state: BreakerState,
    pub(crate) open_for: Duration,
}

impl From<Rejected> for Cow<'static, str> {
    fn from(Rejected { state, open_for }: Rejected) -> Self {
        match state {
            BreakerState::Open => {
                // `u64`, because formatting it takes half the time of the `u128` of `as_millis`.
                let millis = u64::try_from(open_for.as_millis()).unwrap_or(u64::MAX);
                format!("open for another {millis} ms").into()
            }
            BreakerState::HalfOpen => "half-open, every probe is taken".into(),
            BreakerState::Ramping => "ramping, this call's share is used".into(),
            BreakerState::ForcedOpen => "forced open by an operator".into(),
            BreakerState::Closed | BreakerState::ForcedClosed => "closed".into(),
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Cow::from(*self))
    }
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) from: BreakerState,
    pub(crate) to: BreakerState,
    pub(crate) why: Cow<'static, str>,
}

/// An order that an operator can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    ForceOpen,
    ForceClosed,
    Reset,
}

/// The breaker's state and counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) state: BreakerState,
    pub(crate) open_for: Duration,
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) slow: u64,
    pub(crate) consecutive_failures: u32,
    pub(crate) trips: u64,
}
