//! One decision: a structured event, and an entry of the request's decision trail.

use std::borrow::Cow;
use std::fmt::Display;

use crate::context::RequestSummary;
use crate::trail::Decision;
use crate::{CorrelationId, Deadline, DecisionTrail, RequestContext};

/// Access to the identity of the request that a decision is about.
pub(crate) trait HasRequestIdentity {
    fn identity(&self) -> (&CorrelationId, Deadline, u32, &DecisionTrail);
}

impl HasRequestIdentity for RequestContext {
    fn identity(&self) -> (&CorrelationId, Deadline, u32, &DecisionTrail) {
        (&self.correlation_id, self.deadline, self.attempt, &self.trail)
    }
}

impl HasRequestIdentity for RequestSummary {
    fn identity(&self) -> (&CorrelationId, Deadline, u32, &DecisionTrail) {
        (&self.correlation_id, self.deadline, self.attempt, &self.trail)
    }
}

/// The level of the event. Refusals are many under overload, so they are not warnings. A change of state that affects
/// every caller is a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
}

/// A decision to be recorded.
#[derive(Debug)]
pub(crate) struct Decided<'a, W = Cow<'static, str>> {
    pub(crate) layer: &'static str,
    pub(crate) action: &'static str,
    /// The reason: text, or a value that becomes text if an event or a trail needs it.
    pub(crate) why: W,
    /// The dependency; `None` for a server's decision about its own request.
    pub(crate) peer: Option<&'a str>,
    /// `host:port`; without it the trail names the peer.
    pub(crate) endpoint: Option<Cow<'static, str>>,
    pub(crate) level: Level,
}

macro_rules! emit {
    ($level:ident, $d:expr, $request:expr, $left:expr) => {
        tracing::$level!(
            target: "mainstay::decision",
            layer = $d.layer,
            action = $d.action,
            why = %$d.why,
            peer = $d.peer,
            endpoint = $d.endpoint.as_deref(),
            attempt = $request.map(|(_, _, attempt, _)| attempt),
            deadline_left_ms = $left,
            correlation_id = $request.map(|(id, _, _, _)| id.as_str()),
            "{}: {}", $d.layer, $d.action,
        )
    };
}

impl<W: Display + Into<Cow<'static, str>>> Decided<'_, W> {
    /// Emits the event and, if there is a request, adds the decision to its trail.
    pub(crate) fn record(self, request: Option<&impl HasRequestIdentity>) {
        let request = request.map(HasRequestIdentity::identity);
        let left = request
            .map(|(_, deadline, _, _)| u64::try_from(deadline.remaining().as_millis()).unwrap_or(u64::MAX));
        match self.level {
            Level::Debug => emit!(debug, self, request, left),
            Level::Info => emit!(info, self, request, left),
            Level::Warn => emit!(warn, self, request, left),
        }
        if let Some((_, _, attempt, trail)) = request {
            trail.push(Decision {
                layer: self.layer.into(),
                action: self.action.into(),
                why: self.why.into(),
                attempt,
                endpoint: self.endpoint.or_else(|| Some(self.peer?.to_owned().into())),
                deadline_left_ms: left,
                at_ms: 0,
            });
        }
    }
}
