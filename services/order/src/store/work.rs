//! Interrupted work: finding it, taking it under a new epoch, putting it back.

use sqlx::PgConnection;

use super::orders::{Order, columns};
use crate::app::requests::Fruitless;

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
pub const TAKE_UNRESOLVED: &str = take!("due_at <= now() AND status <> 'reserved' ORDER BY due_at");
/// See [`take_lapsed`].
pub const TAKE_LAPSED: &str = take!(
    "status = 'reserved' AND expires_at <= now() AND (due_at IS NULL OR due_at <= now()) ORDER BY expires_at"
);

/// Takes at most `limit` unresolved orders whose lease or back-off has ended. Any number of replicas may ask at
/// once: each row goes to one of them.
pub async fn take_unresolved(connection: &mut PgConnection, limit: i64) -> Result<Vec<Order>, sqlx::Error> {
    sqlx::query_as(TAKE_UNRESOLVED).bind(limit).bind(LEASE_MS).fetch_all(connection).await
}

/// Takes at most `limit` reserved orders whose hold should have run out.
pub async fn take_lapsed(connection: &mut PgConnection, limit: i64) -> Result<Vec<Order>, sqlx::Error> {
    sqlx::query_as(TAKE_LAPSED).bind(limit).bind(LEASE_MS).fetch_all(connection).await
}

/// Puts an order back without a transition, to be tried again after `backoff_ms`, and counts the requests of the try. `false`: it has been taken
/// over, and is no longer ours to put back.
pub async fn put_back(
    connection: &mut PgConnection,
    order: &Order,
    backoff_ms: i64,
    fruitless: &Fruitless,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE orders SET holder = NULL, tries = tries + 1,
             due_at = clock_timestamp() + $4 * interval '1 millisecond',
             fruitless_sent = fruitless_sent + $5, fruitless_refused = fruitless_refused + $6, fruitless_why = $7,
             fruitless_unconnected = fruitless_unconnected + $8
         WHERE id = $1 AND version = $2 AND epoch = $3",
    )
    .bind(order.id)
    .bind(order.version)
    .bind(order.epoch)
    .bind(backoff_ms)
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

/// Lets every waiting order be taken at once; leases that are running are left alone.
pub async fn hurry(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE orders SET due_at = clock_timestamp()
         WHERE due_at > clock_timestamp() AND holder IS NULL AND status <> 'reserved'",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many orders are unresolved in each state, and how long the oldest has been.
pub async fn unresolved(connection: &mut PgConnection) -> Result<Vec<(String, i64, f64)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT status, count(*), extract(epoch FROM max(clock_timestamp() - updated_at))::float8
         FROM orders WHERE due_at IS NOT NULL AND status <> 'reserved' GROUP BY status",
    )
    .fetch_all(connection)
    .await
}
