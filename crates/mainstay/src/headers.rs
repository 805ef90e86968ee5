//! The names of the headers that this crate reads and writes.

use http::HeaderName;

/// Name of one request across every hop, log line, span and journal entry.
pub const X_CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// Milliseconds left for the request. It is a duration and not a time of day, so that clock skew has no effect.
pub const X_DEADLINE_MS: HeaderName = HeaderName::from_static("x-deadline-ms");
/// Number of the attempt of the same logical call; the first is 1.
pub const X_ATTEMPT: HeaderName = HeaderName::from_static("x-attempt");
/// `critical`, `default`, `degraded` or `sheddable`; see [`crate::context::Priority`].
pub const X_PRIORITY: HeaderName = HeaderName::from_static("x-priority");
/// Effect of a refused or failed request: `not-executed`, `refused` or `unknown`. It mirrors the problem document's
/// `outcome` member, so that a client can classify a reply without reading its body.
pub const X_OUTCOME: HeaderName = HeaderName::from_static("x-outcome");
/// The client's name for one command, which makes a write safe to repeat.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// W3C trace context, vendor part; passed on without being read.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
