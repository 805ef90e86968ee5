//! Request and reply bodies of the public API, and the validation of requests.

use std::borrow::Cow;

use chassis::Validate;
use inventory_api::{Line, RequestLine, validate};
use journal::Entry;
use mainstay::problem::FieldError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::OrderView;
use crate::app::place::NewOrder;

/// An order to place: inventory holds all of its lines or none.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    /// Id of the customer: 1 to 64 printable ASCII characters.
    #[schema(example = "17850", min_length = 1, max_length = 64)]
    pub customer_id: String,
    /// Order lines: 1 to 1,000, with distinct SKUs.
    #[serde(deserialize_with = "RequestLine::all", serialize_with = "RequestLine::write")]
    #[schema(value_type = Vec<RequestLine>, min_items = 1, max_items = 1000)]
    pub lines: Vec<Line>,
}

impl Validate for NewOrder {
    type Wire = PlaceOrder;

    fn validate(wire: PlaceOrder) -> Result<Self, Vec<FieldError>> {
        let mut errors = validate::lines(&wire.lines);
        if !validate::is_identifier(&wire.customer_id) {
            let detail = validate::IDENTIFIER_RULE.to_owned();
            errors.insert(0, FieldError { field: "customer_id".to_owned(), detail });
        }
        if errors.is_empty() {
            Ok(Self { customer_id: wire.customer_id.into(), lines: wire.lines.into() })
        } else {
            Err(errors)
        }
    }
}

/// A page of orders, oldest first. It has at most `limit` orders, and fewer if they reach 4,000 lines before that.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderPage {
    /// Orders of the page.
    pub items: Vec<OrderView>,
    /// Orders of the page that this release cannot read; `items` and `unreadable` together are the whole page. Absent when
    /// there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableOrder>,
    /// Cursor of the next page: the value for `after`; null at the end.
    pub next: Option<String>,
}

/// An order that this release cannot read.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnreadableOrder {
    /// Order id.
    pub id: Uuid,
    /// Reason for the reader; the service's log has the fault.
    pub detail: &'static str,
}

/// Every transition of an order, oldest first.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// Transitions that this release can read.
    pub entries: Vec<HistoryEntry>,
    /// Transitions that this release cannot read. Absent when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableEntry>,
}

/// A transition that this release cannot read.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UnreadableEntry {
    /// Sequence number of the entry in the journal.
    pub seq: i64,
}

/// A transition of an order.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    /// Number of the transition: 1, 2, 3 … without gaps.
    pub version: i64,
    /// Status before the transition; null for the first one.
    pub from: Option<String>,
    /// Status after the transition.
    pub to: String,
    /// Time of the transition by the service's clock, RFC 3339 in UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Name of the command or step that led to the transition.
    pub command: String,
    /// Name of the rule that decided, with its version.
    pub rule: String,
    /// Everything that the decision read.
    pub inputs: Value,
    /// The states that the decision refused, with the reasons.
    pub alternatives: Value,
    /// Decisions of the middleware on the way to the transition.
    pub evidence: Value,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Correlation id of the request that led to the transition.
    pub correlation_id: String,
    /// Id of the entry that caused this one, in either service; null for the first entry of a request.
    pub causation_id: Option<Uuid>,
    /// Trace id of the request that led to the transition.
    pub trace_id: Option<String>,
}

impl From<Entry<'_>> for HistoryEntry {
    fn from(entry: Entry<'_>) -> Self {
        let alternatives = serde_json::to_value(&entry.alternatives).unwrap_or_default();
        Self {
            version: entry.version,
            from: Some(entry.from.into_owned()).filter(|state| state != journal::rule::NONE),
            to: entry.to.into_owned(),
            at: entry.at,
            command: entry.command.into_owned(),
            rule: entry.rule.into_owned(),
            inputs: entry.inputs,
            alternatives,
            evidence: entry.evidence,
            attempt: entry.attempt,
            correlation_id: entry.correlation_id.into_owned(),
            causation_id: entry.causation_id,
            trace_id: entry.trace_id.map(Cow::into_owned),
        }
    }
}
