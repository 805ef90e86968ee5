//! One decision: a structured event, and an entry of the request's decision trail.

use std::borrow::Cow;
use std::fmt::Display;

use crate::context::Party;
use crate::trail::Decision;
use crate::{CorrelationId, Deadline, DecisionTrail, RequestContext};

/// Access to the identity of the request that a decision is about.
pub(crate) trait Concerns {
    fn concerns(&self) -> (&CorrelationId, Deadline, u32, &DecisionTrail);
}

impl Concerns for RequestContext {
    fn concerns(&self) -> (&CorrelationId, Deadline, u32, &DecisionTrail) {
        (&self.correlation_id, self.deadline, self.attempt, &self.trail)
    }
}

impl Concerns for Party {
    fn concerns(&self) -> (&CorrelationId, Deadline, u32, &DecisionTrail) {
        (&self.correlation_id, self.deadline, self.attempt, &self.trail)
    }
}

/// The level of the event. Refusals are many under overload, so they are not warnings. A change of state that affects
/// every caller is a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loudness {
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
    pub(crate) loudness: Loudness,
}

macro_rules! emit {
    ($level:ident, $d:expr, $whose:expr, $left:expr) => {
        tracing::$level!(
            target: "mainstay::decision",
            layer = $d.layer,
            action = $d.action,
            why = %$d.why,
            peer = $d.peer,
            endpoint = $d.endpoint.as_deref(),
            attempt = $whose.map(|(_, _, attempt, _)| attempt),
            deadline_left_ms = $left,
            correlation_id = $whose.map(|(id, _, _, _)| id.as_str()),
            "{}: {}", $d.layer, $d.action,
        )
    };
}

impl<W: Display + Into<Cow<'static, str>>> Decided<'_, W> {
    /// Emits the event and, if there is a request, adds the decision to its trail.
    pub(crate) fn record(self, whose: Option<&impl Concerns>) {
        let whose = whose.map(Concerns::concerns);
        let left = whose
            .map(|(_, deadline, _, _)| u64::try_from(deadline.remaining().as_millis()).unwrap_or(u64::MAX));
        match self.loudness {
            Loudness::Debug => emit!(debug, self, whose, left),
            Loudness::Info => emit!(info, self, whose, left),
            Loudness::Warn => emit!(warn, self, whose, left),
        }
        if let Some((_, _, attempt, trail)) = whose {
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
