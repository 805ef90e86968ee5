//! Due orders: taken under a new epoch, and put back for a later try.
//!
//! A row that this release cannot read blocks only itself. A row whose status it does not know is never taken, because a
//! newer release may be working on it. A taken row that cannot be read is put off by a minute, so that any number of such
//! rows leaves room in a sweep for the others.

use std::time::Duration;

use journal::State;
use mainstay::Deadline;
use sqlx::PgConnection;

use super::order::{Order, STUCK, Unreadable, columns, decode_all};
use crate::domain::Status;
use crate::domain::retry::{InconclusiveTry, Retry};

/// The longest lease, in milliseconds: the time for which an order rests after the replica that held it was killed. The
/// reconciler always takes the whole time: the last order of a batch waits for three others, and with its own call, each
/// of up to three seconds, that makes twelve seconds. A request takes the part that it needs.
const LEASE_MS: i64 = 15_000;

/// Length of a request's lease, in milliseconds: until two seconds after its deadline, which is time to record the
/// answer, and at most [`LEASE_MS`]. Then the reconciler takes over. A request whose deadline is later than its lease
/// can still be waiting for inventory then: it writes nothing, and answers with the order's present state.
pub(super) fn lease_ms(deadline: Deadline) -> i64 {
    let length = deadline.remaining() + Duration::from_secs(2);
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX).min(LEASE_MS)
}

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

/// The statement that takes unresolved orders.
pub const TAKE_UNRESOLVED: &str =
    take!("due_at <= now() AND status = ANY ($3) AND (failed_alone >= $4) = $5 ORDER BY due_at");
/// The statement that takes reserved orders whose hold should have ended.
pub const TAKE_ENDED_HOLDS: &str = take!(
    "status = 'reserved' AND expires_at <= now() AND (due_at IS NULL OR due_at <= now())
     ORDER BY coalesce(due_at, expires_at)"
);

/// The kind of due orders to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Unresolved orders whose lease or back-off has ended, without the stuck ones.
    Unresolved,
    /// Unresolved orders whose last tries failed while other orders were served; see [`STUCK`].
    Stuck,
    /// Reserved orders whose hold should have ended.
    EndedHold,
}

/// The statuses in which inventory has to be asked, as text.
pub(super) fn unresolved_statuses() -> Vec<&'static str> {
    Status::ALL.into_iter().filter(|status| status.is_unresolved()).map(State::as_str).collect()
}

/// Takes at most `limit` due orders. Gives the orders and the taken rows that cannot be read. Any number of replicas may
/// call this at once: each row goes to one of them.
pub(super) async fn take(
    connection: &mut PgConnection,
    due: Due,
    limit: i64,
) -> Result<(Vec<Order>, Vec<Unreadable>), sqlx::Error> {
    let statement = match due {
        Due::Unresolved | Due::Stuck => sqlx::query(TAKE_UNRESOLVED)
            .bind(limit)
            .bind(LEASE_MS)
            .bind(unresolved_statuses())
            .bind(STUCK)
            .bind(due == Due::Stuck),
        Due::EndedHold => sqlx::query(TAKE_ENDED_HOLDS).bind(limit).bind(LEASE_MS),
    };
    let (orders, unreadable) = decode_all(&statement.fetch_all(&mut *connection).await?, Status::parse)?;
    if !unreadable.is_empty() {
        let put_off =
            "UPDATE orders SET holder = NULL, due_at = clock_timestamp() + $2 * interval '1 millisecond'
                       WHERE id = ANY ($1)";
        let ids: Vec<_> = unreadable.iter().map(|fault| fault.id).collect();
        sqlx::query(put_off).bind(ids).bind(UNREADABLE_MS).execute(connection).await?;
    }
    Ok((orders, unreadable))
}

/// Time for which a row that cannot be read is put off, in milliseconds: many sweeps, and still short after a repair.
const UNREADABLE_MS: i64 = 60_000;

/// Ends the lease without a transition, sets the time of the next try, and counts the requests of the last one. `false`
/// when another driver has taken the order over; nothing is written then.
pub(super) async fn put_back(
    connection: &mut PgConnection,
    order: &Order,
    retry: Retry,
    last: &InconclusiveTry,
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
    .bind(retry.backoff_ms)
    .bind(retry.failed_alone)
    .bind(count(last.requests.sent))
    .bind(count(last.requests.refused_here))
    .bind(&last.why)
    .bind(count(last.requests.unconnected))
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

fn count(requests: u64) -> i64 {
    i64::try_from(requests).unwrap_or(i64::MAX)
}

/// Makes every waiting order due now. Running leases, and rows in a status that this release does not know, stay as they
/// are.
pub(super) async fn make_due_now(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE orders SET due_at = clock_timestamp()
         WHERE due_at > clock_timestamp() AND holder IS NULL AND status = ANY ($1)",
    )
    .bind(unresolved_statuses())
    .execute(connection)
    .await?;
    Ok(())
}
