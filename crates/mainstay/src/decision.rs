//! One decision: one structured event, and one line of the request's decision trail.

use std::borrow::Cow;

use crate::RequestContext;
use crate::trail::Decision;

/// How loud the event is. Refusals come in floods, so they are not warnings; a state that changed for everybody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loudness {
    Debug,
    Info,
    Warn,
}

/// A decision about to be recorded.
#[derive(Debug)]
pub(crate) struct Decided<'a> {
    pub(crate) layer: &'static str,
    pub(crate) action: &'static str,
    pub(crate) why: Cow<'static, str>,
    pub(crate) peer: &'a str,
    /// `host:port`; the peer's name stands in when there is none.
    pub(crate) endpoint: Option<Cow<'static, str>>,
    pub(crate) loudness: Loudness,
}

macro_rules! emit {
    ($level:ident, $d:expr, $context:expr, $left:expr) => {
        tracing::$level!(
            target: "mainstay::decision",
            layer = $d.layer,
            action = $d.action,
            why = %$d.why,
            peer = $d.peer,
            endpoint = $d.endpoint.as_deref(),
            attempt = $context.map(|c| c.attempt),
            deadline_left_ms = $left,
            correlation_id = $context.map(|c| c.correlation_id.as_str()),
            "{}: {}", $d.layer, $d.action,
        )
    };
}

impl Decided<'_> {
    /// Emits the event and, when there is a request, keeps the decision on its trail.
    pub(crate) fn record(self, context: Option<&RequestContext>) {
        let left = context.map(|c| u64::try_from(c.deadline.remaining().as_millis()).unwrap_or(u64::MAX));
        match self.loudness {
            Loudness::Debug => emit!(debug, self, context, left),
            Loudness::Info => emit!(info, self, context, left),
            Loudness::Warn => emit!(warn, self, context, left),
        }
        if let Some(context) = context {
            context.trail.push(Decision {
                layer: self.layer.into(),
                action: self.action.into(),
                why: self.why,
                attempt: context.attempt,
                endpoint: Some(self.endpoint.unwrap_or_else(|| self.peer.to_owned().into())),
                deadline_left_ms: left,
                at_ms: 0,
            });
        }
    }
}
