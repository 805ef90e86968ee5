//! One request's record: opened on arrival, closed exactly once, on whichever way the request ends.
//!
//! Closing happens on drop at the latest, so a caller that leaves is counted, timed and logged like any other, and
//! the gauge goes back to where it was.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;
use tracing::Span;

use super::drain::InFlight;
use super::log_fields::LogFields;
use super::names;
use crate::{Outcome, RequestContext, classify};

/// The target of the canonical log line: one event per request.
pub const CANONICAL: &str = "mainstay::canonical";

#[derive(Debug)]
pub(super) struct Record {
    pub(super) context: RequestContext,
    pub(super) method: &'static str,
    pub(super) route: Cow<'static, str>,
    pub(super) fields: LogFields,
    pub(super) span: Span,
    pub(super) began: Instant,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) status: Option<StatusCode>,
    pub(super) outcome: Option<Outcome>,
    pub(super) bytes: u64,
    closed: bool,
}

impl Record {
    pub(super) fn open(
        context: RequestContext,
        method: &'static str,
        route: Cow<'static, str>,
        fields: LogFields,
        span: Span,
        in_flight: Arc<InFlight>,
    ) -> Self {
        metrics::gauge!(names::IN_FLIGHT).increment(1.0);
        in_flight.enter();
        Self {
            context,
            method,
            route,
            fields,
            span,
            began: Instant::now(),
            in_flight,
            status: None,
            outcome: None,
            bytes: 0,
            closed: false,
        }
    }

    /// The head of the reply is known.
    pub(super) fn replied(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.outcome = Some(classify::reply(status, headers));
    }

    /// The request is over.
    pub(super) fn close(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let took = self.began.elapsed();
        let status = self.status.map_or(Cow::Borrowed("none"), |s| Cow::Owned(s.as_str().to_owned()));
        metrics::gauge!(names::IN_FLIGHT).decrement(1.0);
        metrics::histogram!(names::DURATION, "route" => self.route.clone(), "method" => self.method)
            .record(took.as_secs_f64());
        metrics::counter!(
            names::REQUESTS,
            "route" => self.route.clone(),
            "method" => self.method,
            "status" => status,
            "outcome" => outcome.as_str()
        )
        .increment(1);
        if outcome == Outcome::Cancelled {
            metrics::counter!(names::CANCELLED).increment(1);
        }
        self.log(outcome, millis_f64(took));
        self.in_flight.leave();
    }

    fn log(&self, outcome: Outcome, duration_ms: f64) {
        let _entered = self.span.enter();
        self.span.record("http.response.status_code", self.status.map(|s| s.as_u16()));
        self.span.record("outcome", outcome.as_str());
        if !tracing::enabled!(target: CANONICAL, tracing::Level::INFO) {
            return;
        }
        let decisions = self.context.trail.snapshot();
        let principal = self.fields.get("principal");
        tracing::event!(
            target: CANONICAL,
            tracing::Level::INFO,
            http.request.method = self.method,
            http.route = &*self.route,
            http.response.status_code = self.status.map(|s| s.as_u16()),
            http.response.body.size = self.bytes,
            outcome = outcome.as_str(),
            duration_ms,
            deadline_left_ms = millis(self.context.deadline.remaining()),
            attempt = self.context.attempt,
            priority = self.context.priority.as_str(),
            principal = principal.as_ref().and_then(|p| p.as_str()),
            correlation_id = self.context.correlation_id.as_str(),
            trace_id = self.context.trace.trace_id_hex(),
            span_id = self.context.trace.span_id_hex(),
            queue_ms = millis_f64(self.fields.queue_time()),
            decisions = (!decisions.is_empty()).then(|| serde_json::to_string(&decisions).ok()).flatten(),
            fields = self.fields.to_json(),
            "request",
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.close(Outcome::Cancelled);
    }
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds to the microsecond, without the digits that binary fractions add.
fn millis_f64(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A method's label: only the standard names, so that a client cannot add series (OpenTelemetry's `_OTHER`).
pub(super) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}
