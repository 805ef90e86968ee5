//! The history of an order: every transition with its time, its reason and its evidence.

use std::borrow::Cow;

use axum::extract::State;
use axum::{Extension, Json};
use chassis::auth::ClientsAndOperators;
use chassis::problem_document::ProblemDocument;
use chassis::{ApiError, Caller as Authenticated, ValidPath};
use journal::Entry;
use mainstay::RequestContext;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::queries::owner;

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

/// Explain an order: every transition with its reason
///
/// Consistency: read your writes, and monotonic. An entry never changes and never disappears; later reads only add entries
/// at the end.
#[utoipa::path(
    get, path = "/v1/orders/{id}/history", tag = "orders",
    params(("id" = Uuid, Path, description = "The order")),
    responses(
        (status = 200, description = "The history", body = History),
        (status = 400, description = "malformed-parameter", body = ProblemDocument),
        (status = 401, description = "unauthenticated", body = ProblemDocument),
        (status = 403, description = "forbidden", body = ProblemDocument),
        (status = 404, description = "not-found, also for another principal's", body = ProblemDocument),
        (status = 429, description = "rate-limited", body = ProblemDocument),
        (status = 500, description = "internal", body = ProblemDocument),
        (status = 503, description = "overloaded, unavailable, shutting-down", body = ProblemDocument),
        (status = 504, description = "deadline-exceeded", body = ProblemDocument),
    )
)]
pub(super) async fn history(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    authenticated: Authenticated<ClientsAndOperators>,
    ValidPath(id): ValidPath<Uuid>,
) -> Result<Json<History>, ApiError> {
    let deadline = context.deadline.instant();
    let order = api.app.order(deadline, id, owner(&authenticated)).await;
    if order.map_err(|error| chassis::stored::database(&error))?.is_none() {
        return Err(ApiError::not_found("there is no such order"));
    }
    let found = api.app.history(deadline, id).await.map_err(|error| chassis::stored::database(&error))?;
    let mut history = History { entries: Vec::with_capacity(found.len()), unreadable: Vec::new() };
    for entry in found {
        match entry {
            Ok(entry) => history.entries.push(entry.into()),
            Err((seq, _)) => history.unreadable.push(UnreadableEntry { seq }),
        }
    }
    Ok(Json(history))
}
