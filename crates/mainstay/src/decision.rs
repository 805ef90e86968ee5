//! One decision: one structured event, and one line of the request's decision trail.

use std::borrow::Cow;
use std::fmt::Display;

use crate::context::Party;
use crate::trail::Decision;
use crate::{CorrelationId, Deadline, DecisionTrail, RequestContext};

/// Whose decision it is.
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

/// How loud the event is. Refusals come in floods, so they are not warnings; a state that changed for everybody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loudness {
    Debug,
    Info,
    Warn,
}

/// A decision about to be recorded.
#[derive(Debug)]
pub(crate) struct Decided<'a, W = Cow<'static, str>> {
    pub(crate) layer: &'static str,
    pub(crate) action: &'static str,
    /// Text, or what becomes text if there is anybody to read it.
    pub(crate) why: W,
    /// The dependency it is about; `None` for what a server decides of its own request.
    pub(crate) peer: Option<&'a str>,
    /// `host:port`; the peer's name stands in when there is none.
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
    /// Emits the event and, when there is a request, keeps the decision on its trail.
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
