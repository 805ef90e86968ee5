//! The two statements that write orders: one creates them, one moves them from status to status.

use std::collections::HashSet;
use std::sync::Arc;

use journal::append::{column, query};
use journal::{Claim, Keys, Sealed, State, Step, StoredReply, entry};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::order::Order;
use crate::domain::Status;
use crate::domain::retry::Retry;

/// An order to create, with its first entry, its idempotency key and a request's lease.
#[derive(Debug)]
pub(super) struct NewOrder {
    /// The order after its first entry.
    pub order: Arc<Order>,
    /// The first entry, which has the reason.
    pub sealed: Sealed,
    /// Claim of the idempotency key.
    pub key: Claim,
    /// Length of the request's lease, in milliseconds.
    pub lease_ms: i64,
    /// Deadline of the request that places the order.
    pub deadline: Instant,
}

/// Result of creating one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    /// The order exists.
    New,
    /// The key is taken, and nothing was written; see [`append`](journal::append()).
    KeyTaken,
    /// The deadline had passed, and nothing was written.
    TooLate,
}

/// The statement of `create`. It has the parameters of [`entry!`]`(claim)`, then the columns of the orders.
pub const CREATE: &str = concat!(
    "WITH ",
    entry!(claim),
    ", made AS (INSERT INTO orders (id, principal, customer_id, lines, status, reservation_id, hold_seconds,
        correlation_id, trace_id, created_at, updated_at, version, head_hash, head_entry, epoch, holder, due_at,
        head_clock, head_correlation_id)
     SELECT id, principal, customer_id, lines, status, reservation_id, hold_seconds, correlation_id, trace_id, created_at,
        created_at, version, head_hash, head_entry, epoch, 'request',
        clock_timestamp() + lease * interval '1 millisecond', head_clock, correlation_id
     FROM unnest($15::uuid[], $16::text[], $17::text[], $18::jsonb[], $19::text[], $20::uuid[], $21::bigint[], $22::text[],
        $23::text[], $24::timestamptz[], $25::bigint[], $26::bytea[], $27::uuid[], $28::bigint[], $29::bigint[],
        $30::text[])
        AS o (id, principal, customer_id, lines, status, reservation_id, hold_seconds, correlation_id, trace_id,
            created_at, version, head_hash, head_entry, epoch, lease, head_clock)
     JOIN claimed USING (id))
     SELECT id FROM claimed"
);

/// Creates orders, and gives the result of each.
pub(super) async fn create(
    connection: &mut PgConnection,
    all: &[Arc<NewOrder>],
) -> Result<Step<Vec<Created>>, sqlx::Error> {
    // A deadline may have passed while the order waited for the transaction to begin.
    let now = Instant::now();
    let is_late = |n: &NewOrder| n.deadline <= now;
    let new: &[&NewOrder] = &all.iter().map(AsRef::as_ref).filter(|n| !is_late(n)).collect::<Vec<_>>();
    if new.is_empty() {
        return Ok(Step::Rollback(vec![Created::TooLate; all.len()]));
    }
    let entries = column(new, |n| &n.sealed);
    let keys = column(new, |n| &n.key);
    let created = query(CREATE, &entries, Keys::Claim(&keys))
        .bind(column(new, |n| n.order.id))
        .bind(column(new, |n| &*n.order.principal))
        .bind(column(new, |n| &*n.order.customer_id))
        .bind(column(new, |n| Json(&*n.order.lines)))
        .bind(column(new, |n| n.order.status.as_str()))
        .bind(column(new, |n| n.order.reservation_id))
        .bind(column(new, |n| n.order.hold_seconds))
        .bind(column(new, |n| &*n.order.correlation_id))
        .bind(column(new, |n| n.order.trace_id.as_deref()))
        .bind(column(new, |n| n.order.created_at))
        .bind(column(new, |n| n.order.version))
        .bind(column(new, |n| n.order.head_hash.as_slice()))
        .bind(column(new, |n| n.order.head_entry))
        .bind(column(new, |n| n.order.epoch))
        .bind(column(new, |n| n.lease_ms))
        .bind(column(new, |n| n.order.head_clock.to_string()))
        .fetch_all(connection)
        .await?;
    let created = ids(&created)?;
    let each = column(all, |n| match n.as_ref() {
        n if is_late(n) => Created::TooLate,
        n if created.contains(&n.order.id) => Created::New,
        _ => Created::KeyTaken,
    });
    Ok(if created.is_empty() { Step::Rollback(each) } else { Step::Commit(each) })
}

/// Time from which the reconciler may take an order after a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextAttempt {
    /// Never: the order is at rest.
    AtRest,
    /// After a request's lease of this many milliseconds. The lease raises the epoch.
    Lease(i64),
    /// After a back-off.
    Backoff(Retry),
}

impl NextAttempt {
    fn holder(self) -> Option<&'static str> {
        matches!(self, Self::Lease(_)).then_some("request")
    }

    fn millis(self) -> Option<i64> {
        match self {
            Self::AtRest => None,
            Self::Lease(millis) | Self::Backoff(Retry { backoff_ms: millis, .. }) => Some(millis),
        }
    }
}

impl Order {
    /// The order after its next entry.
    pub(super) fn after(
        &self,
        status: Status,
        sealed: &Sealed,
        expires_at: Option<OffsetDateTime>,
        due: NextAttempt,
    ) -> Self {
        let (tries, failed_alone) = match due {
            NextAttempt::AtRest | NextAttempt::Lease(_) => (0, 0),
            NextAttempt::Backoff(retry) => (self.tries + 1, retry.failed_alone),
        };
        let in_flight = matches!(due, NextAttempt::Lease(_));
        Self {
            status,
            expires_at,
            updated_at: sealed.at,
            version: sealed.version,
            head_hash: sealed.hash,
            head_entry: sealed.id,
            head_clock: sealed.hlc,
            head_correlation_id: Arc::clone(&sealed.correlation_id),
            epoch: self.epoch + i64::from(in_flight),
            in_flight,
            tries,
            failed_alone,
            ..self.clone()
        }
    }
}

/// A transition of an order, with its entry and the replies for the keys that it completes.
#[derive(Debug, Clone)]
pub(super) struct Transition {
    /// The order before the transition. The row must still have this version and epoch.
    pub from: Arc<Order>,
    /// The order after the transition.
    pub moved: Arc<Order>,
    /// Time from which the reconciler may take the order.
    pub due: NextAttempt,
    /// The entry of the transition, which has the reason.
    pub sealed: Sealed,
    /// Replies for the waiting keys, by command.
    pub replies: Vec<(&'static str, StoredReply)>,
}

/// The statement of `transition`. It has the parameters of [`entry!`]`(complete)`, then the columns of the orders.
pub const TRANSITION: &str = concat!(
    "WITH moved AS (UPDATE orders o SET status = m.status, version = m.version, head_hash = m.head_hash,
        head_entry = m.head_entry, expires_at = m.expires_at, updated_at = m.updated_at, status_since = clock_timestamp(), epoch = m.epoch,
        holder = m.holder, tries = m.tries, failed_alone = m.failed_alone, due_at = clock_timestamp() + m.due * interval '1 millisecond',
        head_clock = m.head_clock, head_correlation_id = m.head_correlation_id
     FROM unnest($18::uuid[], $19::bigint[], $20::bigint[], $21::text[], $22::bigint[], $23::bytea[], $24::uuid[],
        $25::timestamptz[], $26::timestamptz[], $27::bigint[], $28::text[], $29::integer[], $30::bigint[], $31::text[],
        $32::text[], $33::integer[])
        AS m (id, from_version, from_epoch, status, version, head_hash, head_entry, expires_at, updated_at, epoch, holder,
            tries, due, head_clock, head_correlation_id, failed_alone)
     WHERE o.id = m.id AND o.version = m.from_version AND o.epoch = m.from_epoch RETURNING o.id), ",
    entry!(complete for "moved"),
    " SELECT id FROM moved"
);

/// Moves orders, and gives `true` for each order that moved. If another driver has moved the order or taken it over,
/// nothing was written for it.
pub(super) async fn transition(
    connection: &mut PgConnection,
    all: &[Arc<Transition>],
) -> Result<Step<Vec<bool>>, sqlx::Error> {
    let entries = column(all, |a| &a.sealed);
    let replies: Vec<_> = all
        .iter()
        .flat_map(|a| a.replies.iter().map(|(command, reply)| (a.from.id, *command, reply)))
        .collect();
    let moved = query(TRANSITION, &entries, Keys::Complete(&replies))
        .bind(column(all, |a| a.from.id))
        .bind(column(all, |a| a.from.version))
        .bind(column(all, |a| a.from.epoch))
        .bind(column(all, |a| a.moved.status.as_str()))
        .bind(column(all, |a| a.moved.version))
        .bind(column(all, |a| a.moved.head_hash.as_slice()))
        .bind(column(all, |a| a.moved.head_entry))
        .bind(column(all, |a| a.moved.expires_at))
        .bind(column(all, |a| a.moved.updated_at))
        .bind(column(all, |a| a.moved.epoch))
        .bind(column(all, |a| a.due.holder()))
        .bind(column(all, |a| a.moved.tries))
        .bind(column(all, |a| a.due.millis()))
        .bind(column(all, |a| a.moved.head_clock.to_string()))
        .bind(column(all, |a| &*a.moved.head_correlation_id))
        .bind(column(all, |a| a.moved.failed_alone))
        .fetch_all(connection)
        .await?;
    let moved = ids(&moved)?;
    // Two transitions of one order at different epochs cannot both be in `moved`: their entries have the same version, so
    // the journal refuses the pair, and the batch writes each of them alone.
    let each = column(all, |a| moved.contains(&a.from.id));
    Ok(if moved.is_empty() { Step::Rollback(each) } else { Step::Commit(each) })
}

fn ids(rows: &[PgRow]) -> Result<HashSet<Uuid>, sqlx::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}
