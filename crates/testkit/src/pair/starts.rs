//! Time left at the start of each handler and each call, for the checker.
//!
//! The canonical log lines of the services give the time left of each request. The proxies between the services see
//! the deadline header of each call.

use std::collections::HashMap;
use std::path::Path;

use checker::{Side, Start, Work};
use serde_json::Value;

use crate::proxy::{Exchange, HttpProxy};

/// Log target of the canonical line, which each request writes at its end.
const CANONICAL: &str = "mainstay::canonical";

/// All handlers and calls that were observed to start. `logs` are the log files of the replicas.
pub(super) fn all<'a>(logs: impl Iterator<Item = (Side, &'a Path)>, hops: &[HttpProxy]) -> Vec<Start> {
    let mut starts = Vec::new();
    // For each trace, the order service's handler. It is the parent of the calls of the trace.
    let mut callers = HashMap::new();
    for (service, log) in logs {
        // A replica without a log file has started no handler.
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for line in lines.filter(|line| line["target"] == CANONICAL) {
            let Some(handler) = handler(service, &line) else { continue };
            if let (Side::Order, Some(trace)) = (service, line["trace_id"].as_str()) {
                callers.insert(trace.to_owned(), handler.id.clone());
            }
            starts.push(handler);
        }
    }
    let exchanges = hops.iter().flat_map(HttpProxy::exchanges);
    starts.extend(exchanges.filter_map(|exchange| call(&exchange, &callers)));
    starts
}

/// The handler that a canonical line describes.
fn handler(service: Side, line: &Value) -> Option<Start> {
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    let left_at_end = line["deadline_left_ms"].as_i64()?;
    let took = line["duration_ms"].as_f64()?;
    // With no time left at the end, the line does not tell when the time ran out.
    #[allow(clippy::cast_possible_truncation, reason = "requests take seconds")]
    let left_ms = (left_at_end > 0).then_some(left_at_end + took as i64);
    Some(Start {
        id: text("span_id")?,
        parent: text("parent_span_id"),
        service,
        work: Work::Handler,
        name: format!("{} {}", line["http.request.method"].as_str()?, line["http.route"].as_str()?),
        correlation_id: text("correlation_id")?,
        left_ms,
        records_outcome: false,
    })
}

/// The call attempt that a request on a hop belongs to. A call of a sweep has no handler as its parent.
fn call(exchange: &Exchange, callers: &HashMap<String, String>) -> Option<Start> {
    let header = |name| exchange.request.header(name);
    let parent = header("traceparent")?;
    let mut parts = parent.split('-').skip(1);
    let (trace, span) = (parts.next()?, parts.next()?);
    Some(Start {
        id: span.to_owned(),
        parent: callers.get(trace).cloned(),
        service: Side::Order,
        work: Work::Call,
        name: exchange.request.subject(),
        correlation_id: header("x-correlation-id").unwrap_or_default(),
        left_ms: header("x-deadline-ms").and_then(|left| left.parse().ok()),
        records_outcome: false,
    })
}
