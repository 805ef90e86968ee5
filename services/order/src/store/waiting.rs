//! How an order that is not decided waits: for operators, read from its row and its unanswered keys.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// The part of an order's row that says how it waits. The status is text, so that an order of a newer release can be
/// looked at too.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Waiting {
    /// The order's status.
    pub status: String,
    /// Tries since the last definite answer.
    pub tries: i32,
    /// `request` or `reconciler` while one of them works on it.
    pub holder: Option<String>,
    /// The end of the holder's lease or of the back-off; null at rest.
    pub due_at: Option<OffsetDateTime>,
    /// Milliseconds until then, by the database's clock; below zero when it is overdue.
    pub due_in_ms: Option<i64>,
    /// Requests that were sent in tries that decided nothing and have no entry, since the order was placed.
    pub fruitless_sent: i64,
    /// Requests that were refused here, unsent, in such tries.
    pub fruitless_refused: i64,
    /// Requests for which there was no connection, in such tries.
    pub fruitless_unconnected: i64,
    /// Why the latest such try decided nothing.
    pub fruitless_why: Option<String>,
}

/// A command whose key has no final reply: its client was told 202 so far, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Unanswered {
    /// `place`, `confirm` or `cancel`.
    pub command: String,
    /// When the key was claimed.
    pub claimed_at: OffsetDateTime,
}

const WAITING: &str = "SELECT status, tries, holder, due_at,
        (extract(epoch FROM due_at - clock_timestamp()) * 1000)::bigint AS due_in_ms,
        fruitless_sent, fruitless_refused, fruitless_unconnected, fruitless_why
     FROM orders WHERE id = $1";
const UNANSWERED: &str = "SELECT command, claimed_at FROM idempotency
     WHERE aggregate_id = $1 AND completed_at IS NULL ORDER BY claimed_at LIMIT 20";

/// How an order waits, and its commands without a final reply; `None` when there is no such order.
pub async fn read(
    connection: &mut PgConnection,
    id: Uuid,
) -> Result<Option<(Waiting, Vec<Unanswered>)>, sqlx::Error> {
    let Some(waiting) = sqlx::query_as(WAITING).bind(id).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let unanswered = sqlx::query_as(UNANSWERED).bind(id).fetch_all(connection).await?;
    Ok(Some((waiting, unanswered)))
}
