//! One request's record: opened on arrival, and closed exactly once, however the request ends.
//!
//! The record closes on drop at the latest, so that a request whose caller left is counted, timed and logged like any
//! other, and the gauge is decremented.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;
use tracing::Span;

use super::log_fields::LogFields;
use super::meters::Meters;
use crate::{Outcome, RequestContext, classify};

/// The target of the canonical log line: one event per request.
pub const CANONICAL: &str = "mainstay::canonical";

/// A request that has ended, with the values of its canonical line.
#[derive(Debug, Clone, Copy)]
pub struct FinishedRequest<'a> {
    /// Identity, deadline and decision trail of the request.
    pub context: &'a RequestContext,
    /// Method, or `_OTHER`.
    pub method: &'static str,
    /// Template of the route.
    pub route: &'a str,
    /// Status of the reply; `None` when there was no reply.
    pub status: Option<StatusCode>,
    /// Bytes of the reply's body that were sent.
    pub body_size: u64,
    /// Outcome of the request for its caller.
    pub outcome: Outcome,
    /// Time from arrival to the end of the reply.
    pub duration: Duration,
    /// Time that the request waited for a permit.
    pub queued: Duration,
    /// Fields that the handler has set.
    pub fields: &'a LogFields,
}

/// Function that receives each request that has ended. It runs in the request's task, so it must not block.
pub type ObserverFn = Arc<dyn Fn(&FinishedRequest<'_>) + Send + Sync>;

pub(super) struct Record {
    pub(super) context: RequestContext,
    /// Route template and method.
    pub(super) route: (Cow<'static, str>, &'static str),
    pub(super) fields: LogFields,
    pub(super) span: Span,
    pub(super) outcome: Option<Outcome>,
    pub(super) bytes: u64,
    meters: Arc<Meters>,
    observer: Option<ObserverFn>,
    began: Instant,
    status: Option<StatusCode>,
    closed: bool,
}

impl Record {
    pub(super) fn open(
        context: RequestContext,
        route: (Cow<'static, str>, &'static str),
        fields: LogFields,
        span: Span,
        meters: &Arc<Meters>,
        observer: Option<ObserverFn>,
    ) -> Self {
        meters.enter();
        Self {
            context,
            route,
            fields,
            span,
            outcome: None,
            bytes: 0,
            meters: Arc::clone(meters),
            observer,
            began: Instant::now(),
            status: None,
            closed: false,
        }
    }

    /// Notes the reply's status and headers.
    pub(super) fn replied(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.outcome = Some(classify::reply(status, headers));
    }

    /// Closes the record with the request's outcome.
    pub(super) fn close(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let took = self.began.elapsed();
        self.log(outcome, millis_f64(took));
        if let Some(observer) = &self.observer {
            observer(&FinishedRequest {
                context: &self.context,
                method: self.route.1,
                route: &self.route.0,
                status: self.status,
                body_size: self.bytes,
                outcome,
                duration: took,
                queued: self.fields.queue_time(),
                fields: &self.fields,
            });
        }
        self.meters.leave(&self.route, self.status, outcome, took);
    }

    fn log(&self, outcome: Outcome, duration_ms: f64) {
        let _entered = self.span.enter();
        tracing::record_all!(
            self.span,
            http.response.status_code = self.status.map(|s| s.as_u16()),
            outcome = outcome.as_str(),
        );
        if !tracing::enabled!(target: CANONICAL, tracing::Level::INFO) {
            return;
        }
        let principal = self.fields.get("principal");
        tracing::event!(
            target: CANONICAL,
            tracing::Level::INFO,
            http.request.method = self.route.1,
            http.route = &*self.route.0,
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
            decisions = self.context.trail.to_json(),
            fields = self.fields.to_json(),
            "request",
        );
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("context", &self.context)
            .field("route", &self.route)
            .finish_non_exhaustive()
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

/// Milliseconds with microsecond precision, without the further digits of binary fractions.
fn millis_f64(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The label of a method. Only the standard names have their own label, so that a client cannot add series
/// (OpenTelemetry's `_OTHER`).
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
