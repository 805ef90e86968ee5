//! The event: one JSON object for each request and each background step.
//!
//! All members are flat, so that a query names them without a path. [`crate::fields::FIELDS`] describes every member.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::objective::Verdict;

/// One event, without its time and its [`Origin`].
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event<'a> {
    /// A request that a server answered, refused or lost.
    Request(&'a RequestEvent<'a>),
    /// A step of background work: a pass of a sweep, an expiry, a page of the feed.
    Step(&'a StepEvent<'a>),
}

/// The process that an event comes from. These members are the same in all its events.
#[derive(Debug, Clone, Serialize)]
pub struct Origin {
    /// Name of the service.
    #[serde(rename = "service.name")]
    pub service: String,
    /// Release version of the service.
    #[serde(rename = "service.version")]
    pub version: String,
    /// Source revision that the service was built from.
    #[serde(rename = "vcs.ref.head.revision")]
    pub revision: String,
    /// Name of the process, new at each start.
    #[serde(rename = "service.instance.id")]
    pub instance: String,
    /// Environment that the service runs in.
    #[serde(rename = "deployment.environment.name")]
    pub environment: String,
    /// Region that the service runs in.
    #[serde(rename = "cloud.region", skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// SHA-256 of the settings, as in the journal.
    #[serde(rename = "config.hash")]
    pub config_hash: String,
}

/// A request, as in its canonical log line, with the business it was about and where its time went.
#[derive(Debug, Default, Serialize)]
pub struct RequestEvent<'a> {
    /// Whether the request met its objectives.
    pub verdict: Verdict,
    /// Names of the objectives that the request missed.
    #[serde(rename = "objectives.missed", skip_serializing_if = "<[_]>::is_empty")]
    pub missed: &'a [&'static str],
    #[serde(rename = "http.request.method")]
    pub method: &'a str,
    /// Template of the route.
    #[serde(rename = "http.route")]
    pub route: &'a str,
    /// Status of the reply; `None` when there was no reply.
    #[serde(rename = "http.response.status_code", skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(rename = "http.response.body.size")]
    pub body_size: u64,
    pub outcome: &'a str,
    /// Name of the problem in the reply.
    #[serde(rename = "error.type", skip_serializing_if = "Option::is_none")]
    pub error_type: Option<&'a str>,
    pub duration_ms: f64,
    pub queue_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_ms: Option<f64>,
    /// Name of the service that the request called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<&'a str>,
    #[serde(rename = "peer.outcome", skip_serializing_if = "Option::is_none")]
    pub peer_outcome: Option<&'a str>,
    pub deadline_left_ms: u64,
    pub attempt: u32,
    pub priority: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation_id: Option<&'a str>,
    /// Number of different SKUs.
    #[serde(rename = "skus.count", skip_serializing_if = "Option::is_none")]
    pub sku_count: Option<u64>,
    /// The first [`MAX_SKUS`] SKUs.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub skus: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotent_replayed: Option<bool>,
    pub correlation_id: &'a str,
    pub trace_id: &'a str,
    pub span_id: &'a str,
    /// Values of the flags that were evaluated, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<&'a Map<String, Value>>,
    /// Decisions of the middleware, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decisions: Option<Value>,
    /// Further fields of the canonical line, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Map<String, Value>>,
}

/// SKUs that an event names at most. The rest of a large basket says little and costs much.
pub const MAX_SKUS: usize = 8;

/// A step of background work with its counts.
#[derive(Debug, Default, Serialize)]
pub struct StepEvent<'a> {
    /// `bad` when the step or a part of it failed.
    pub verdict: Verdict,
    /// Name of the step.
    pub step: &'a str,
    pub duration_ms: f64,
    /// Orders, reservations or entries that the step took.
    pub taken: u64,
    /// Those that moved to another state.
    pub moved: u64,
    /// Those that were put back, to be tried again.
    pub waiting: u64,
    /// Those that could not be recorded.
    pub failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
}
