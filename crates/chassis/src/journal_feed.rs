//! `GET /admin/v1/journal`: the journal in commit order, or filtered.

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Json, Router};
use http::StatusCode;
use journal::Database;
use journal::feed::{self, Cursor, Filter, Page, Refused};
use mainstay::problem::Effect;
use mainstay::{CorrelationId, Problem, RequestContext};
use serde::Deserialize;
use uuid::Uuid;

use crate::params::malformed;
use crate::{ApiError, ValidQuery, hex};

/// Default number of entries of a page.
const DEFAULT_LIMIT: i64 = 500;
/// Most entries of a page. A page of large entries ends sooner, at [`feed::PAGE_BYTES`].
const MAX_LIMIT: i64 = 5_000;

#[derive(Debug, Clone)]
struct Feed {
    service: &'static str,
    database: Database,
}

/// The route, for the operations listener's admin router.
pub fn routes(service: &'static str, database: Database) -> Router {
    let feed = get(journal).layer(crate::routes::compressed());
    Router::new().route("/journal", feed).with_state(Feed { service, database })
}

/// A cursor or one filter.
#[derive(Debug, Deserialize)]
struct Query {
    after: Option<String>,
    limit: Option<i64>,
    aggregate_id: Option<Uuid>,
    correlation_id: Option<String>,
    trace_id: Option<String>,
    key_hash: Option<String>,
}

impl Query {
    fn filter(&self) -> Result<Option<Filter>, ApiError> {
        let correlation_id = self.correlation_id.as_deref().map(|text| match CorrelationId::parse(text) {
            Ok(id) => Ok(Filter::Correlation(id.to_string())),
            Err(error) => Err(malformed("correlation_id", error.to_string())),
        });
        let trace_id = self.trace_id.as_ref().map(|text| match lower_hex::<16>(text) {
            Some(_) => Ok(Filter::Trace(text.clone())),
            None => Err(malformed("trace_id", "must be 32 lower-case hex digits")),
        });
        let key_hash = self.key_hash.as_deref().map(|text| {
            let hash = lower_hex(text).map(Filter::Key);
            hash.ok_or_else(|| malformed("key_hash", "must be 64 lower-case hex digits: SHA-256 of the key"))
        });
        let filters = [
            self.aggregate_id.map(Filter::Aggregate),
            correlation_id.transpose()?,
            trace_id.transpose()?,
            key_hash.transpose()?,
        ];
        let mut given = filters.into_iter().flatten();
        match (given.next(), given.next(), &self.after) {
            (filter, None, None) => Ok(filter),
            (None, None, Some(_)) => Ok(None),
            _ => Err(malformed(
                "query",
                "takes one of after, aggregate_id, correlation_id, trace_id and key_hash",
            )),
        }
    }
}

async fn journal(
    State(Feed { service, database }): State<Feed>,
    Extension(context): Extension<RequestContext>,
    ValidQuery(query): ValidQuery<Query>,
) -> Result<Json<Page>, ApiError> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(malformed("limit", "must be 1 to 5000"));
    }
    let filter = query.filter()?;
    let cursor = match &query.after {
        Some(text) => text.parse().map_err(|e: feed::InvalidCursor| malformed("after", e.to_string()))?,
        None => Cursor::start(),
    };
    let page = database
        .read(Some(context.deadline.instant()), (service, filter, cursor, limit), |connection, input| {
            Box::pin(async move {
                match input {
                    (service, Some(filter), _, limit) => {
                        feed::find(connection, service, filter, *limit).await.map(Ok)
                    }
                    (service, None, cursor, limit) => {
                        feed::read(connection, service, cursor.clone(), *limit).await
                    }
                }
            })
        })
        .await;
    match page {
        Ok(Ok(page)) => Ok(Json(page)),
        Ok(Err(refused)) => Err(refusal(refused)),
        Err(error) => Err(crate::stored::database(&error)),
    }
}

/// The problem for a page that cannot be read whole.
fn refusal(refused: Refused) -> ApiError {
    let problem = match refused {
        Refused::Outdated => {
            Problem::new(StatusCode::GONE, "cursor-expired", "The cursor is no longer known")
        }
        Refused::Unmarked => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "A part of this service is down")
                .retry_after(1)
        }
    };
    problem.outcome(Effect::NotExecuted).detail(refused.to_string()).into()
}

/// The `N` bytes that `text` spells in lower-case hex digits.
fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex::decode(text).filter(|_| !text.bytes().any(|b| b.is_ascii_uppercase()))
}
