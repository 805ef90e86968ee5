//! Counts of unresolved orders, and the waiting state of one order, for probes and operators.

use journal::State;
use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::due::unresolved_statuses;
use super::order::STUCK;
use crate::domain::Status;

/// The waiting state of an order. The status is text, so that an order of a newer release can be read too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Order id.
    pub id: Uuid,
    /// Status of the order.
    pub status: String,
    /// Tries since the last definite answer.
    pub tries: i32,
    /// Holder of the lease: `request` or `reconciler`; null when there is none.
    pub holder: Option<String>,
    /// Time from which the reconciler may take the order; null at rest.
    #[serde(with = "time::serde::rfc3339::option")]
    pub due_at: Option<OffsetDateTime>,
    /// Milliseconds until `due_at`, by the database's clock; below zero when the order is overdue.
    pub due_in_ms: Option<i64>,
    /// Requests of tries that decided nothing and have no entry, since the order was placed.
    pub without_entry: WithoutEntry,
}

journal::from_row!(Waiting { id, status, tries, holder, due_at, due_in_ms, ..without_entry });

/// Requests of tries that have no entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WithoutEntry {
    /// Requests that were sent.
    pub sent: i64,
    /// Requests that a breaker, a limit or the deadline refused before sending.
    pub refused_here: i64,
    /// Requests for which there was no connection.
    pub unconnected: i64,
    /// Reason why the latest of these tries decided nothing.
    pub why: Option<String>,
}

journal::from_row!(WithoutEntry { sent, refused_here, unconnected, why });

/// A command whose key has no final reply. Its client got 202, or no reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unanswered {
    /// Name of the command: `place`, `confirm` or `cancel`.
    pub command: String,
    /// Time at which the key was claimed.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

journal::from_row!(Unanswered { command, since });

const WAITING: &str = "SELECT id, status, tries, holder, due_at,
        (extract(epoch FROM due_at - clock_timestamp()) * 1000)::bigint AS due_in_ms,
        fruitless_sent AS sent, fruitless_refused AS refused_here, fruitless_unconnected AS unconnected, fruitless_why AS why
     FROM orders WHERE id = $1";
const UNANSWERED: &str = "SELECT command, claimed_at AS since FROM idempotency
     WHERE aggregate_id = $1 AND completed_at IS NULL ORDER BY claimed_at LIMIT 20";

/// Reads how an order waits, and its commands without a final reply; `None` when there is no such order.
pub(super) async fn waiting(
    connection: &mut PgConnection,
    id: Uuid,
) -> Result<Option<(Waiting, Vec<Unanswered>)>, sqlx::Error> {
    let Some(waiting) = sqlx::query_as(WAITING).bind(id).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let unanswered = sqlx::query_as(UNANSWERED).bind(id).fetch_all(connection).await?;
    Ok(Some((waiting, unanswered)))
}

/// The unresolved orders of one status.
#[derive(Debug, Clone, PartialEq)]
pub struct Unresolved {
    /// The status, which this release may not know.
    pub status: String,
    /// Number of orders in the status.
    pub count: i64,
    /// Number of these orders that have been in the status for longer than the given time.
    pub waiting: i64,
    /// Number of these orders that are stuck.
    pub stuck: i64,
    /// Seconds since the oldest of these orders came into the status.
    pub oldest_seconds: f64,
    /// Id of the oldest of these orders.
    pub oldest: Uuid,
}

journal::from_row!(Unresolved { status, count, waiting, stuck, oldest_seconds, oldest });

/// The unresolved orders of all statuses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnresolvedOrders {
    /// Counts by status.
    pub by_status: Vec<Unresolved>,
    /// Stuck orders; the order that waits longest comes first.
    pub stuck: Vec<StuckOrder>,
    /// Orders that wait in a status that this release does not know, with that status.
    pub of_unknown_status: Vec<(Uuid, String)>,
}

/// Counts the unresolved orders by status; `waiting` counts those that wait for longer than `secs`. A row with an infinite
/// time has no age: subtracting the time would be an error, and one row must not hide the others.
pub(super) async fn unresolved(
    connection: &mut PgConnection,
    secs: f64,
) -> Result<Vec<Unresolved>, sqlx::Error> {
    sqlx::query_as(
        "SELECT status, count(*) AS count,
             count(*) FILTER (WHERE since < clock_timestamp() - $1 * interval '1 second') AS waiting,
             count(*) FILTER (WHERE failed_alone >= $2) AS stuck,
             coalesce(greatest(extract(epoch FROM max(clock_timestamp() - since)
                 FILTER (WHERE isfinite(since))), 0), 0)::float8 AS oldest_seconds,
             (array_agg(id ORDER BY since))[1] AS oldest
         FROM (SELECT id, status, failed_alone, coalesce(status_since, updated_at) AS since FROM orders
             WHERE due_at IS NOT NULL AND status <> 'reserved') waiting GROUP BY status",
    )
    .bind(secs)
    .bind(STUCK)
    .fetch_all(connection)
    .await
}

/// Finds at most `limit` rows that wait in a status that this release does not know, with that status.
pub(super) async fn of_unknown_status(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<Vec<(Uuid, String)>, sqlx::Error> {
    sqlx::query_as("SELECT id, status FROM orders WHERE due_at IS NOT NULL AND status <> ALL ($1) LIMIT $2")
        .bind(Status::ALL.map(State::as_str))
        .bind(limit)
        .fetch_all(connection)
        .await
}

/// An order whose tries fail while other orders are served.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct StuckOrder {
    /// Order id.
    pub id: Uuid,
    /// Status of the order.
    pub status: String,
    /// Tries in a row that failed while inventory served other orders.
    pub failed_alone: i32,
    /// Seconds for which the order has been in this status.
    pub waiting_seconds: f64,
    /// Seconds until the next try; zero or below when it is due.
    pub next_try_seconds: f64,
}

journal::from_row!(StuckOrder { id, status, failed_alone, waiting_seconds, next_try_seconds });

/// Finds at most `limit` stuck orders; the order that waits longest comes first.
pub(super) async fn stuck(connection: &mut PgConnection, limit: i64) -> Result<Vec<StuckOrder>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, status, failed_alone,
             CASE WHEN isfinite(since) THEN extract(epoch FROM clock_timestamp() - since) ELSE 0 END::float8
                 AS waiting_seconds,
             CASE WHEN isfinite(due_at) THEN extract(epoch FROM due_at - clock_timestamp()) ELSE 0 END::float8
                 AS next_try_seconds
         FROM (SELECT *, coalesce(status_since, updated_at) AS since FROM orders
             WHERE due_at IS NOT NULL AND status = ANY ($1) AND failed_alone >= $2) waiting
         ORDER BY since LIMIT $3",
    )
    .bind(unresolved_statuses())
    .bind(STUCK)
    .bind(limit)
    .fetch_all(connection)
    .await
}
