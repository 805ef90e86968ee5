//! The waiting state of an undecided order, for operators: read from the order's row and from its keys without a reply.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// The part of an order's row that tells how it waits. The status is text, so that an order of a newer release can be
/// read too.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Waiting {
    /// Status of the order.
    pub status: String,
    /// Tries since the last definite answer.
    pub tries: i32,
    /// Holder of the lease: `request` or `reconciler`; `None` when there is none.
    pub holder: Option<String>,
    /// End of the lease or of the back-off; `None` at rest.
    pub due_at: Option<OffsetDateTime>,
    /// Milliseconds until `due_at`, by the database's clock; below zero when the order is overdue.
    pub due_in_ms: Option<i64>,
    /// Requests that were sent in tries that decided nothing and have no entry, since the order was placed.
    pub fruitless_sent: i64,
    /// Requests that this service refused before sending, in such tries.
    pub fruitless_refused: i64,
    /// Requests for which there was no connection, in such tries.
    pub fruitless_unconnected: i64,
    /// Reason why the latest such try decided nothing.
    pub fruitless_why: Option<String>,
}

/// A command whose key has no final reply. Its client got 202, or no reply.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Unanswered {
    /// Name of the command: `place`, `confirm` or `cancel`.
    pub command: String,
    /// Time at which the key was claimed.
    pub claimed_at: OffsetDateTime,
}

const WAITING: &str = "SELECT status, tries, holder, due_at,
        (extract(epoch FROM due_at - clock_timestamp()) * 1000)::bigint AS due_in_ms,
        fruitless_sent, fruitless_refused, fruitless_unconnected, fruitless_why
     FROM orders WHERE id = $1";
const UNANSWERED: &str = "SELECT command, claimed_at FROM idempotency
     WHERE aggregate_id = $1 AND completed_at IS NULL ORDER BY claimed_at LIMIT 20";

/// Reads how an order waits, and its commands without a final reply; `None` when there is no such order.
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
