//! The history of an order: every transition with when, why and on what evidence.

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
    /// The transitions.
    pub entries: Vec<HistoryEntry>,
}

/// One transition.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    /// 1, 2, 3 … without gaps.
    pub version: i64,
    /// The state before; null for the first.
    pub from: Option<String>,
    /// The state after.
    pub to: String,
    /// When, by the service's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What was asked.
    pub command: String,
    /// Which decision, with its version.
    pub rule: String,
    /// Everything the decision read.
    pub inputs: Value,
    /// The branches refused, and why.
    pub alternatives: Value,
    /// What the middleware saw on the way.
    pub evidence: Value,
    /// Which attempt of the step.
    pub attempt: u32,
    /// The request's correlation id.
    pub correlation_id: String,
    /// The entry that caused it, in either service; null at the root of a request.
    pub causation_id: Option<Uuid>,
    /// The request's trace.
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
/// Consistency: read your writes, and monotonic. An entry never changes and never disappears; later reads only add entries at the
/// end.
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
    let entries = api.app.history(deadline, id).await.map_err(|error| chassis::stored::database(&error))?;
    Ok(Json(History { entries: entries.into_iter().map(HistoryEntry::from).collect() }))
}
