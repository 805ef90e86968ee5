//! Interrupted orders: found, taken under a new epoch, put back.
//!
//! A row that this release cannot read blocks only itself. A row whose status it does not know is never taken, because a
//! newer release may be working on it. A taken row that cannot be read is put off by a minute, so that any number of such
//! rows leaves room in a sweep for the others.

use journal::State;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::orders::{Order, STUCK, Unreadable, columns, decode_known};
use crate::app::requests::Fruitless;
use crate::domain::Status;

/// The longest lease, in milliseconds: the time for which an order rests after the replica that held it was killed. The
/// reconciler always takes the whole time: the last order of a batch waits for three others, and with its own call, each
/// of up to three seconds, that makes twelve seconds. A request takes the part that it needs.
pub const LEASE_MS: i64 = 15_000;

/// The statement that takes the orders that match `$which`. It runs alone in its transaction, so due orders are found by
/// `now()`: an index can be searched by `now()`, and not by `clock_timestamp()`, which can differ for each row.
macro_rules! take {
    ($which:literal) => {
        concat!(
            "UPDATE orders SET epoch = epoch + 1, holder = 'reconciler',
                 due_at = clock_timestamp() + $2 * interval '1 millisecond'
             WHERE id IN (SELECT id FROM orders WHERE ",
            $which,
            " LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING ",
            columns!()
        )
    };
}

/// The statement of [`take_unresolved`].
pub const TAKE_UNRESOLVED: &str =
    take!("due_at <= now() AND status = ANY ($3) AND (failed_alone >= $4) = $5 ORDER BY due_at");
/// See [`take_overdue`].
pub const TAKE_OVERDUE: &str = take!(
    "status = 'reserved' AND expires_at <= now() AND (due_at IS NULL OR due_at <= now())
     ORDER BY coalesce(due_at, expires_at)"
);

/// The kind of unresolved orders to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Orders that are not stuck.
    Ordinary,
    /// Orders whose last tries failed while other orders were served; see [`STUCK`].
    Stuck,
}

/// The statuses in which inventory has to be asked, as text.
fn unresolved_statuses() -> Vec<&'static str> {
    Status::ALL.into_iter().filter(|status| status.is_unresolved()).map(State::as_str).collect()
}

/// Takes at most `limit` unresolved orders whose lease or back-off has ended. Gives the orders and the taken rows that
/// cannot be read. Any number of replicas may call this at once: each row goes to one of them.
pub async fn take_unresolved(
    connection: &mut PgConnection,
    kind: Kind,
    limit: i64,
) -> Result<(Vec<Order>, Vec<Unreadable>), sqlx::Error> {
    let rows = sqlx::query(TAKE_UNRESOLVED)
        .bind(limit)
        .bind(LEASE_MS)
        .bind(unresolved_statuses())
        .bind(STUCK)
        .bind(kind == Kind::Stuck)
        .fetch_all(&mut *connection)
        .await?;
    readable(connection, &rows).await
}

/// Takes at most `limit` reserved orders whose hold should have ended, in the same way as [`take_unresolved`].
pub async fn take_overdue(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<(Vec<Order>, Vec<Unreadable>), sqlx::Error> {
    let rows = sqlx::query(TAKE_OVERDUE).bind(limit).bind(LEASE_MS).fetch_all(&mut *connection).await?;
    readable(connection, &rows).await
}

/// Time for which a row that cannot be read is put off, in milliseconds: many sweeps, and still short after a repair.
const UNREADABLE_MS: i64 = 60_000;

async fn readable(
    connection: &mut PgConnection,
    rows: &[PgRow],
) -> Result<(Vec<Order>, Vec<Unreadable>), sqlx::Error> {
    let (orders, unreadable) = decode_known(rows)?;
    if !unreadable.is_empty() {
        let put_off =
            "UPDATE orders SET holder = NULL, due_at = clock_timestamp() + $2 * interval '1 millisecond'
                       WHERE id = ANY ($1)";
        let ids: Vec<_> = unreadable.iter().map(|fault| fault.id).collect();
        sqlx::query(put_off).bind(ids).bind(UNREADABLE_MS).execute(connection).await?;
    }
    Ok((orders, unreadable))
}

/// Ends the lease without a transition, sets the next try to `backoff_ms` from now, and counts the requests of the try.
/// `false` when another driver has taken the order over; nothing is written then.
pub async fn put_back(
    connection: &mut PgConnection,
    order: &Order,
    backoff_ms: i64,
    failed_alone: i32,
    fruitless: &Fruitless,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE orders SET holder = NULL, tries = tries + 1, failed_alone = $5,
             due_at = clock_timestamp() + $4 * interval '1 millisecond',
             fruitless_sent = fruitless_sent + $6, fruitless_refused = fruitless_refused + $7, fruitless_why = $8,
             fruitless_unconnected = fruitless_unconnected + $9
         WHERE id = $1 AND version = $2 AND epoch = $3",
    )
    .bind(order.id)
    .bind(order.version)
    .bind(order.epoch)
    .bind(backoff_ms)
    .bind(failed_alone)
    .bind(count(fruitless.requests.sent))
    .bind(count(fruitless.requests.refused_here))
    .bind(&fruitless.why)
    .bind(count(fruitless.requests.unconnected))
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

fn count(requests: u64) -> i64 {
    i64::try_from(requests).unwrap_or(i64::MAX)
}

/// Makes every waiting order due now. Running leases, and rows in a status that this release does not know, stay as they
/// are.
pub async fn make_due_now(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE orders SET due_at = clock_timestamp()
         WHERE due_at > clock_timestamp() AND holder IS NULL AND status = ANY ($1)",
    )
    .bind(unresolved_statuses())
    .execute(connection)
    .await?;
    Ok(())
}

/// The unresolved orders of one status.
#[derive(Debug, Clone, PartialEq, FromRow)]
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

/// Counts the unresolved orders by status; `waiting` counts those that wait for longer than `secs`. A row with an infinite
/// time has no age: subtracting the time would be an error, and one row must not hide the others.
pub async fn unresolved(connection: &mut PgConnection, secs: f64) -> Result<Vec<Unresolved>, sqlx::Error> {
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
pub async fn of_unknown_status(
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
#[derive(Debug, Clone, PartialEq, FromRow, Serialize, ToSchema)]
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

/// Finds at most `limit` stuck orders; the order that waits longest comes first.
pub async fn stuck(connection: &mut PgConnection, limit: i64) -> Result<Vec<StuckOrder>, sqlx::Error> {
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
