//! Interrupted work: finding it, taking it under a new epoch, putting it back.
//!
//! A row that this release cannot read blocks only itself. One whose status it does not know is never taken, because it
//! may be a newer release's work. One that turns out to be unreadable when taken is put off by a minute, so that any
//! number of them leaves the places of a sweep to the others.

use journal::State;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::orders::{Order, STUCK, Unreadable, columns, decode_known};
use crate::app::requests::Fruitless;
use crate::domain::Status;

/// The longest lease, in milliseconds: so long an order rests that a replica had in hand when it was killed. The
/// reconciler takes all of it: the last of a batch waits for three others, each of which may take a whole call, twelve
/// seconds together. A request takes what it needs of it.
pub const LEASE_MS: i64 = 15_000;

/// Takes the orders that `$which` finds. It runs alone in its transaction, so what is due is found by `now()`, which the
/// index can be searched by; by `clock_timestamp()`, which may be another for each row, it cannot.
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

/// See [`take_unresolved`].
pub const TAKE_UNRESOLVED: &str =
    take!("due_at <= now() AND status = ANY ($3) AND (failed_alone >= $4) = $5 ORDER BY due_at");
/// See [`take_lapsed`].
pub const TAKE_LAPSED: &str = take!(
    "status = 'reserved' AND expires_at <= now() AND (due_at IS NULL OR due_at <= now())
     ORDER BY coalesce(due_at, expires_at)"
);

/// Which unresolved orders to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Those that are not stuck.
    Ordinary,
    /// Those whose last tries failed while other orders were served; see [`STUCK`].
    Stuck,
}

/// The statuses in which inventory has to be asked, as text.
fn unresolved_statuses() -> Vec<&'static str> {
    Status::ALL.into_iter().filter(|status| status.is_unresolved()).map(State::as_str).collect()
}

/// Takes at most `limit` unresolved orders whose lease or back-off has ended, and gives the taken rows that cannot be
/// read beside them. Any number of replicas may ask at once: each row goes to one of them.
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

/// Takes at most `limit` reserved orders whose hold should have run out, as [`take_unresolved`]: those that have been due
/// for longest first, so that orders that were put back do not come before those that were never asked about.
pub async fn take_lapsed(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<(Vec<Order>, Vec<Unreadable>), sqlx::Error> {
    let rows = sqlx::query(TAKE_LAPSED).bind(limit).bind(LEASE_MS).fetch_all(&mut *connection).await?;
    readable(connection, &rows).await
}

/// How long a row that cannot be read is left alone, in milliseconds: many sweeps, and yet soon read after a mend.
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

/// Puts an order back without a transition, to be tried again after `backoff_ms`, and counts the requests of the try.
/// `false`: it has been taken over, and is no longer ours to put back.
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

/// Lets every waiting order be taken at once; leases that are running, and rows of statuses that this release does not
/// know, are left alone.
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
    /// The status; also one that this release does not know.
    pub status: String,
    /// Orders in it.
    pub count: i64,
    /// Of these, orders that have been in it for longer than the time asked for.
    pub waiting: i64,
    /// Of these, stuck ones.
    pub stuck: i64,
    /// Seconds since the oldest came into it.
    pub oldest_seconds: f64,
}

/// The unresolved orders by status; `waiting` counts those that wait for longer than `secs`, by the database's clock. An infinite time counts as
/// no age: it would be an error to subtract, and one row must not hide the others.
pub async fn unresolved(connection: &mut PgConnection, secs: f64) -> Result<Vec<Unresolved>, sqlx::Error> {
    sqlx::query_as(
        "SELECT status, count(*) AS count,
             count(*) FILTER (WHERE since < clock_timestamp() - $1 * interval '1 second') AS waiting,
             count(*) FILTER (WHERE failed_alone >= $2) AS stuck,
             coalesce(greatest(extract(epoch FROM max(clock_timestamp() - since)
                 FILTER (WHERE isfinite(since))), 0), 0)::float8 AS oldest_seconds
         FROM (SELECT status, failed_alone, coalesce(status_since, updated_at) AS since FROM orders
             WHERE due_at IS NOT NULL AND status <> 'reserved') waiting GROUP BY status",
    )
    .bind(secs)
    .bind(STUCK)
    .fetch_all(connection)
    .await
}

/// At most `limit` rows that wait in a status that this release does not know, with that status.
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
    /// Its id.
    pub id: Uuid,
    /// Its status.
    pub status: String,
    /// Tries in a row that failed while inventory served other orders.
    pub failed_alone: i32,
    /// Seconds in this status.
    pub waiting_seconds: f64,
    /// Seconds until its next try; at or below zero when it is due.
    pub next_try_seconds: f64,
}

/// At most `limit` stuck orders, those that wait longest first.
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
