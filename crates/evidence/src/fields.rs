//! The one table of event fields: every member that an event may have, with its unit and meaning.
//!
//! A test compares the table with the event's type, so neither can name a field that the other lacks. The facets of a
//! query are the names of this table.

use std::fmt::Write as _;

/// Description of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldInfo {
    /// Name of the member.
    pub name: &'static str,
    /// Short name in queries; empty when there is none.
    pub short: &'static str,
    /// Events that have the field: `request`, `step`, `all`, `sealed`.
    pub of: &'static str,
    /// Unit or kind of the value.
    pub unit: &'static str,
    /// Meaning of the value.
    pub meaning: &'static str,
}

const fn field(
    name: &'static str,
    short: &'static str,
    of: &'static str,
    unit: &'static str,
    meaning: &'static str,
) -> FieldInfo {
    FieldInfo { name, short, of, unit, meaning }
}

/// All fields, in the order in which an event has them.
pub const FIELDS: &[FieldInfo] = &[
    field("weight", "", "sealed", "events", "Number of good events that this one stands for; absent means 1"),
    field("timestamp", "", "all", "RFC 3339, UTC", "End of the request or step"),
    field("service.name", "service", "all", "text", "Service that recorded the event"),
    field("service.version", "version", "all", "text", "Release of the service"),
    field("vcs.ref.head.revision", "revision", "all", "text", "Source revision of the service"),
    field("service.instance.id", "instance", "all", "UUID", "Process; new at each start"),
    field("deployment.environment.name", "environment", "all", "text", "Environment, such as `local`"),
    field("cloud.region", "region", "all", "text", "Region, when it is set"),
    field("config.hash", "config", "all", "SHA-256", "Hash of the settings, as in the journal"),
    field("event", "", "all", "`request`, `step`", "Kind of the event"),
    field("verdict", "", "all", "`good`, `bad`", "Bad when an objective was missed or the work failed"),
    field("objectives.missed", "missed", "request", "list", "Objectives that the request missed"),
    field("http.request.method", "method", "request", "text", "Method of the request"),
    field("http.route", "route", "request", "template", "Route of the request, such as `/v1/orders/{id}`"),
    field(
        "http.response.status_code",
        "status",
        "request",
        "number",
        "Status; absent when there was no reply",
    ),
    field(
        "http.response.body.size",
        "size",
        "request",
        "bytes",
        "Size of the reply's body as far as it was sent",
    ),
    field("outcome", "", "request", "text", "Outcome of the request for its caller"),
    field("error.type", "", "request", "text", "Name of the problem in the reply"),
    field(
        "duration_ms",
        "duration",
        "all",
        "milliseconds",
        "From arrival to the end of the reply, or of the step",
    ),
    field("queue_ms", "", "request", "milliseconds", "Wait for a permit"),
    field("pool_ms", "", "request", "milliseconds", "Wait for a database connection"),
    field(
        "database_ms",
        "",
        "request",
        "milliseconds",
        "Time in the database, the wait for a connection included",
    ),
    field("peer_ms", "", "request", "milliseconds", "Time in calls to the other service, retries included"),
    field("peer", "", "request", "text", "Service that the request called"),
    field("peer.outcome", "", "request", "text", "Outcome of the last call to that service"),
    field("deadline_left_ms", "", "request", "milliseconds", "Time that was left to the deadline at the end"),
    field("attempt", "", "request", "number", "Attempt of the caller, from 1"),
    field("priority", "", "request", "text", "Priority under overload"),
    field("principal", "", "request", "text", "Authenticated caller"),
    field("customer_id", "customer", "request", "text", "Customer of the order"),
    field("order_id", "order", "request", "UUID", "Order that the request is about"),
    field("reservation_id", "reservation", "request", "UUID", "Reservation that the request is about"),
    field("skus.count", "", "request", "number", "Number of different SKUs"),
    field("skus", "sku", "request", "list", "The first eight SKUs"),
    field("idempotent_replayed", "replayed", "request", "boolean", "Whether a stored reply was sent again"),
    field("correlation_id", "correlation", "request", "text", "Name of the request across services"),
    field("trace_id", "trace", "request", "32 hex digits", "Trace of the request"),
    field("span_id", "span", "request", "16 hex digits", "Span of the request"),
    field("flags", "", "request", "object", "Values of the flags that were evaluated"),
    field("decisions", "", "request", "list of objects", "Decisions of the middleware, oldest first"),
    field("fields", "", "request", "object", "Further fields that the handler set, by name"),
    field("step", "", "step", "text", "Name of the background step"),
    field("taken", "", "step", "number", "Orders, reservations or entries that the step took"),
    field("moved", "", "step", "number", "Those that moved to another state"),
    field("waiting", "", "step", "number", "Those that were put back, to be tried again"),
    field("failed", "", "step", "number", "Those that could not be recorded"),
    field("error", "", "step", "text", "Error that ended the step"),
];

/// The table as a Markdown document.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Fields of events\n\nGenerated by `cargo run -p evidence --example fields`; a test fails when it is not current.\n\n\
         | field | short name | events | unit or kind | meaning |\n|---|---|---|---|---|\n",
    );
    for field in FIELDS {
        let short = if field.short.is_empty() { String::new() } else { format!("`{}`", field.short) };
        let FieldInfo { name, of, unit, meaning, .. } = field;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}` | {short} | {of} | {unit} | {meaning} |");
    }
    text
}

/// The field with this name or short name.
pub(crate) fn find(name: &str) -> Option<&'static FieldInfo> {
    FIELDS.iter().find(|field| field.name == name || (!name.is_empty() && field.short == name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Map, Value, json};

    use super::*;
    use crate::{Event, Origin, RequestEvent, StepEvent, Verdict};

    fn names(value: &impl serde::Serialize) -> BTreeSet<String> {
        serde_json::to_value(value).unwrap().as_object().unwrap().keys().cloned().collect()
    }

    /// Events with every member. A new member does not compile until it stands here.
    fn emitted() -> BTreeSet<String> {
        let text = String::new;
        let origin = Origin {
            service: text(),
            version: text(),
            revision: text(),
            instance: text(),
            environment: text(),
            region: Some(text()),
            config_hash: text(),
        };
        let flags = Map::new();
        let request = RequestEvent {
            verdict: Verdict::Good,
            missed: &["availability"],
            method: "",
            route: "",
            status: Some(200),
            body_size: 0,
            outcome: "",
            error_type: Some(""),
            duration_ms: 0.0,
            queue_ms: 0.0,
            pool_ms: Some(0.0),
            database_ms: Some(0.0),
            peer_ms: Some(0.0),
            peer: Some(""),
            peer_outcome: Some(""),
            deadline_left_ms: 0,
            attempt: 1,
            priority: "",
            principal: Some(""),
            customer_id: Some(""),
            order_id: Some(""),
            reservation_id: Some(""),
            sku_count: Some(1),
            skus: &[""],
            idempotent_replayed: Some(false),
            correlation_id: "",
            trace_id: "",
            span_id: "",
            flags: Some(&flags),
            decisions: Some(json!([])),
            fields: Some(Map::<String, Value>::new()),
        };
        let step = StepEvent {
            verdict: Verdict::Bad,
            step: "",
            duration_ms: 0.0,
            taken: 0,
            moved: 0,
            waiting: 0,
            failed: 0,
            error: Some(""),
        };
        let added = ["timestamp", "weight"].map(str::to_owned);
        [names(&origin), names(&Event::Request(&request)), names(&Event::Step(&step))]
            .into_iter()
            .flatten()
            .chain(added)
            .collect()
    }

    #[test]
    fn the_table_describes_every_emitted_field_and_no_other() {
        let described: BTreeSet<String> = FIELDS.iter().map(|field| field.name.to_owned()).collect();
        assert_eq!(described.len(), FIELDS.len(), "a name stands twice");
        assert_eq!(emitted(), described);
    }

    #[test]
    fn every_name_and_short_name_finds_its_own_field() {
        for field in FIELDS {
            assert_eq!(find(field.name), Some(field));
            assert!(field.short.is_empty() || find(field.short) == Some(field), "{}", field.short);
        }
        assert_eq!(find(""), None);
    }

    #[test]
    fn the_document_is_the_table() {
        let document = include_str!("../../../docs/event-fields.md");
        assert_eq!(
            document,
            markdown(),
            "run: cargo run -p evidence --example fields > docs/event-fields.md"
        );
    }
}
