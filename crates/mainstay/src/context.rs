//! What every layer and handler may know about the request in hand. The server stack puts it into the request's
//! extensions; the client stack reads it from the extensions of what is sent.

use std::time::Duration;

use crate::{CorrelationId, Deadline, DecisionTrail, TraceContext};

/// How much a request matters when there is not room for all. Carried across hops in `X-Priority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Batch work that may wait for hours.
    Sheddable,
    /// Work whose loss a user would notice later, if at all.
    Degraded,
    /// Ordinary requests.
    #[default]
    Default,
    /// What must go through if anything does: resolving work that was begun.
    Critical,
}

impl Priority {
    /// All, least important first.
    pub const ALL: [Self; 4] = [Self::Sheddable, Self::Degraded, Self::Default, Self::Critical];

    /// The name used in `X-Priority`, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::Degraded => "degraded",
            Self::Default => "default",
            Self::Critical => "critical",
        }
    }

    /// Reads a header's text; `None` for anything but the four names.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == text)
    }
}

/// A request extension: this request repeats work that has failed before.
///
/// A caller that repeats work on its own schedule, such as a reconciler, puts it among the request's extensions. Work
/// that fails because of its own content fails at every repeat, and would open the breaker for all other calls to the
/// endpoint. So a marked request
///
/// * does not vote: the [breaker](crate::breaker)'s windows and the [throttle](crate::throttle)'s balance do not count it;
/// * still needs the breaker's leave: an open breaker rejects it. In half-open it may be a probe, since otherwise a
///   service that has only repeats to send would never get its peer back: its success counts as a probe's, its failure
///   gives the place back and reopens nothing;
/// * is sent once, neither [retried](crate::retry) nor [hedged](crate::hedge): its caller is the retry layer, and the
///   budget is there for first tries;
/// * is in all metrics and logs, and counted once more in `mainstay_client_repeats_total`.
///
/// The middleware keeps no keys: the caller knows which work is repeated.
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::Full;
/// use mainstay::RepeatedWork;
///
/// let mut request = Request::post("http://127.0.0.1:8081/v1/reservations").body(Full::new(Bytes::new()))?;
/// request.extensions_mut().insert(RepeatedWork);
/// assert!(RepeatedWork::marks(&request));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepeatedWork;

impl RepeatedWork {
    /// Whether the request carries the mark.
    #[inline]
    pub fn marks<B>(request: &http::Request<B>) -> bool {
        request.extensions().get::<Self>().is_some()
    }
}

/// What a layer needs to know of its request until that ends: how much it matters, and what the record of a decision says
/// of it. A call that keeps only this, and not its whole context, is a third as large, and every layer outside moves it.
#[derive(Debug, Clone)]
pub(crate) struct Party {
    pub(crate) correlation_id: CorrelationId,
    pub(crate) deadline: Deadline,
    pub(crate) attempt: u32,
    pub(crate) priority: Priority,
    pub(crate) trail: DecisionTrail,
}

impl From<&RequestContext> for Party {
    #[inline]
    fn from(context: &RequestContext) -> Self {
        Self {
            correlation_id: context.correlation_id.clone(),
            deadline: context.deadline,
            attempt: context.attempt,
            priority: context.priority,
            trail: context.trail.clone(),
        }
    }
}

/// One request's identity, time and record. Cheap to clone; clones share the decision trail.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Names the request across hops.
    pub correlation_id: CorrelationId,
    /// The trace it belongs to, with the span that is current here.
    pub trace: TraceContext,
    /// When its answer stops mattering.
    pub deadline: Deadline,
    /// Which attempt of its caller's this is, from 1.
    pub attempt: u32,
    /// How much it matters under overload.
    pub priority: Priority,
    /// What has been decided for it.
    pub trail: DecisionTrail,
}

impl RequestContext {
    /// A context for work that no request asked for: a sweep, a command-line call.
    pub fn background(time: Duration) -> Self {
        Self {
            correlation_id: CorrelationId::mint(),
            trace: TraceContext::root(),
            deadline: Deadline::after(time),
            attempt: 1,
            priority: Priority::default(),
            trail: DecisionTrail::new(),
        }
    }
}
