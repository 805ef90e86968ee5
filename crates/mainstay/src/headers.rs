//! The header names this crate reads and writes, in one place.

use http::HeaderName;

/// Names one request across every hop, log line, span and journal entry.
pub const X_CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// Milliseconds left for this request. A duration, never a time of day, so clock skew cannot matter.
pub const X_DEADLINE_MS: HeaderName = HeaderName::from_static("x-deadline-ms");
/// Which attempt of the same logical call this is; the first is 1.
pub const X_ATTEMPT: HeaderName = HeaderName::from_static("x-attempt");
/// `critical`, `default`, `degraded` or `sheddable`; see [`crate::context::Priority`].
pub const X_PRIORITY: HeaderName = HeaderName::from_static("x-priority");
/// What a refusal or failure did: `not-executed`, `refused` or `unknown`. Mirrors the problem document's
/// `outcome` member, so that a client can classify a reply without reading its body.
pub const X_OUTCOME: HeaderName = HeaderName::from_static("x-outcome");
/// Makes a write safe to repeat.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// W3C trace context, vendor part; passed on unread.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
