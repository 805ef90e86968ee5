//! The context of the current request, for every layer and handler. The server stack puts it into the request's
//! extensions; the client stack reads it from the extensions of the outgoing request.

use std::time::Duration;

use crate::{CorrelationId, Deadline, DecisionTrail, TraceContext};

/// A request's importance when there is not room for all requests. `X-Priority` carries it across hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Batch work that may wait for hours.
    Sheddable,
    /// Work whose loss a user would notice later, if at all.
    Degraded,
    /// Ordinary requests.
    #[default]
    Default,
    /// Work that must continue under overload: completing work that has already begun.
    Critical,
}

impl Priority {
    /// All priorities, least important first.
    pub const ALL: [Self; 4] = [Self::Sheddable, Self::Degraded, Self::Default, Self::Critical];

    /// The name in `X-Priority`, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::Degraded => "degraded",
            Self::Default => "default",
            Self::Critical => "critical",
        }
    }

    /// Parses a header's text; `None` for any text except the four names.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == text)
    }
}

/// A request extension: the request repeats work that has failed before.
///
/// A caller that repeats work on its own schedule, such as a reconciler, adds it to the request's extensions. Work
/// that fails because of its own content fails at every repeat, and would open the breaker for all other calls to the
/// endpoint. So a marked request
///
/// * is not counted in the [breaker](crate::breaker)'s windows or the [throttle](crate::throttle)'s balance;
/// * still needs the breaker's permission: an open breaker rejects it. A half-open breaker may admit it as a probe,
///   because otherwise a service that sends only repeats could never close its breaker. Its success counts as a
///   probe's success. Its failure returns the probe and does not open the breaker;
/// * is sent once, neither [retried](crate::retry) nor [hedged](crate::hedge): its caller is the retry layer, and the
///   budget is for first tries;
/// * is in all metrics and logs, and is also counted in `mainstay_client_repeats_total`.
///
/// The middleware stores no keys: the caller knows which work is repeated.
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

/// Request extension that marks the second request of a pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IsHedge;

/// Summary of a request that a layer keeps until the request ends: its priority, and its identity for the record of a
/// decision. It is a third as large as the whole context, and every outer layer moves it.
#[derive(Debug, Clone)]
pub(crate) struct RequestSummary {
    pub(crate) correlation_id: CorrelationId,
    pub(crate) deadline: Deadline,
    pub(crate) attempt: u32,
    pub(crate) priority: Priority,
    pub(crate) trail: DecisionTrail,
}

impl From<&RequestContext> for RequestSummary {
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

/// One request's identity, deadline and decision trail. Cheap to clone; clones share the trail.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Name of the request across hops.
    pub correlation_id: CorrelationId,
    /// The request's trace, with its current span.
    pub trace: TraceContext,
    /// The time after which the caller does not want the answer any more.
    pub deadline: Deadline,
    /// Number of the caller's attempt, from 1.
    pub attempt: u32,
    /// The request's importance under overload.
    pub priority: Priority,
    /// The decisions about the request.
    pub trail: DecisionTrail,
}

impl RequestContext {
    /// A context for work that no request started: a sweep, a command-line call.
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
