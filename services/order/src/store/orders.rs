//! Orders: read by id, created, and moved from status to status.

use std::collections::HashSet;
use std::sync::Arc;

use inventory_api::Line;
use journal::append::{column, query};
use journal::{Claim, Head, HybridTime, Keys, Sealed, State, Step, StoredReply, entry};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::Status;

/// An order as its row has it, with a status of type `S`. Clones share the columns that never change.
#[derive(Debug, Clone, PartialEq)]
pub struct Order<S = Status> {
    /// Order id: a UUIDv7.
    pub id: Uuid,
    /// Principal that placed the order.
    pub principal: Arc<str>,
    /// Id of the customer.
    pub customer_id: Arc<str>,
    /// Order lines: SKU and quantity.
    pub lines: Arc<[Line]>,
    /// Status of the order.
    pub status: S,
    /// Id of the order's reservation. Inventory may not have seen it yet.
    pub reservation_id: Uuid,
    /// Length of the hold that inventory is asked for, in seconds.
    pub hold_seconds: i64,
    /// End of the hold, by inventory's clock; `None` until inventory has held the lines.
    pub expires_at: Option<OffsetDateTime>,
    /// Correlation id of the request that placed the order.
    pub correlation_id: Arc<str>,
    /// Trace id of the request that placed the order.
    pub trace_id: Option<Arc<str>>,
    /// Time at which the order was placed.
    pub created_at: OffsetDateTime,
    /// Time of the last change of status.
    pub updated_at: OffsetDateTime,
    /// Version of the newest entry.
    pub version: i64,
    /// Hash of the newest entry.
    pub head_hash: [u8; 32],
    /// Id of the newest entry.
    pub head_entry: Uuid,
    /// Hybrid time of the newest entry.
    pub head_clock: HybridTime,
    /// Correlation id of the newest entry.
    pub head_correlation_id: Arc<str>,
    /// Epoch of the lease. Each driver that takes the order raises it.
    pub epoch: i64,
    /// True if a request's lease on the order is running, by the database's clock.
    pub in_flight: bool,
    /// Tries since the last definite answer.
    pub tries: i32,
    /// Number of these tries that failed while inventory served other orders; see [`STUCK`].
    pub failed_alone: i32,
}

/// Number of tries that failed while other orders were served, from which an order is set apart. It then waits by longer
/// back-offs, and a sweep of its own takes it.
pub const STUCK: i32 = 3;

/// An order whose status this release may not know.
pub type StoredOrder = Order<StoredStatus>;

/// A status as the row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredStatus {
    /// A status that this release knows.
    Known(Status),
    /// A status that this release does not know. A newer release may have written it.
    Unknown(String),
}

/// A row that this release cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("order {id} cannot be read: {why}")]
pub struct Unreadable {
    /// Order id.
    pub id: Uuid,
    /// Name and fault of the column.
    pub why: String,
}

impl<S> Order<S> {
    /// The same order with another status.
    pub(crate) fn with_status<T>(self, status: T) -> Order<T> {
        Order {
            id: self.id,
            principal: self.principal,
            customer_id: self.customer_id,
            lines: self.lines,
            status,
            reservation_id: self.reservation_id,
            hold_seconds: self.hold_seconds,
            expires_at: self.expires_at,
            correlation_id: self.correlation_id,
            trace_id: self.trace_id,
            created_at: self.created_at,
            updated_at: self.updated_at,
            version: self.version,
            head_hash: self.head_hash,
            head_entry: self.head_entry,
            head_clock: self.head_clock,
            head_correlation_id: self.head_correlation_id,
            epoch: self.epoch,
            in_flight: self.in_flight,
            tries: self.tries,
            failed_alone: self.failed_alone,
        }
    }
}

impl StoredOrder {
    /// The order, if this release knows its status.
    pub fn known(self) -> Result<Order, Unreadable> {
        match &self.status {
            &StoredStatus::Known(status) => Ok(self.with_status(status)),
            StoredStatus::Unknown(status) => {
                Err(Unreadable { id: self.id, why: format!("the status {status:?} is unknown") })
            }
        }
    }
}

impl From<Order> for StoredOrder {
    fn from(order: Order) -> Self {
        let status = StoredStatus::Known(order.status);
        order.with_status(status)
    }
}

impl Order {
    /// Head of the order's journal, for the next entry.
    pub fn head(&self) -> Head {
        Head { state: self.status.as_str(), version: self.version, hash: self.head_hash }
    }

    /// The order after its next entry, in `status`.
    #[must_use]
    pub fn after(&self, status: Status, sealed: &Sealed) -> Self {
        Self {
            status,
            version: sealed.version,
            head_hash: sealed.hash,
            head_entry: sealed.id,
            head_clock: sealed.hlc,
            head_correlation_id: Arc::clone(&sealed.correlation_id),
            updated_at: sealed.at,
            tries: 0,
            failed_alone: 0,
            ..self.clone()
        }
    }
}

/// Reads one row. The outer error concerns the statement, the inner one the row, because a fault of one row does not
/// concern the next.
pub fn decode(row: &PgRow) -> Result<Result<StoredOrder, Unreadable>, sqlx::Error> {
    let id = row.try_get("id")?;
    Ok(columns_of(row, id).map_err(|error| Unreadable { id, why: error.to_string() }))
}

/// Reads rows whose status this release has to know. Gives the orders and the rows that it cannot read.
pub fn decode_known(rows: &[PgRow]) -> Result<(Vec<Order>, Vec<Unreadable>), sqlx::Error> {
    let (mut orders, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        match decode(row)?.and_then(StoredOrder::known) {
            Ok(order) => orders.push(order),
            Err(fault) => unreadable.push(fault),
        }
    }
    Ok((orders, unreadable))
}

fn columns_of(row: &PgRow, id: Uuid) -> Result<StoredOrder, sqlx::Error> {
    let status: &str = row.try_get("status")?;
    let hash: &[u8] = row.try_get("head_hash")?;
    Ok(Order {
        id,
        principal: row.try_get::<&str, _>("principal")?.into(),
        customer_id: row.try_get::<&str, _>("customer_id")?.into(),
        lines: row.try_get::<Json<Vec<Line>>, _>("lines")?.0.into(),
        status: Status::parse(status)
            .map_or_else(|| StoredStatus::Unknown(status.to_owned()), StoredStatus::Known),
        reservation_id: row.try_get("reservation_id")?,
        hold_seconds: row.try_get("hold_seconds")?,
        expires_at: journal::time_at(row, "expires_at")?,
        correlation_id: row.try_get::<&str, _>("correlation_id")?.into(),
        trace_id: row.try_get::<Option<&str>, _>("trace_id")?.map(Into::into),
        created_at: journal::time_at(row, "created_at")?.ok_or_else(|| corrupt("no created_at"))?,
        updated_at: journal::time_at(row, "updated_at")?.ok_or_else(|| corrupt("no updated_at"))?,
        version: row.try_get("version")?,
        head_hash: hash.try_into().map_err(|_| corrupt("head_hash is not 32 bytes long"))?,
        head_entry: row.try_get("head_entry")?,
        head_clock: row
            .try_get::<&str, _>("head_clock")?
            .parse()
            .map_err(|_| corrupt("head_clock is no hybrid time"))?,
        head_correlation_id: row.try_get::<&str, _>("head_correlation_id")?.into(),
        epoch: row.try_get("epoch")?,
        in_flight: row.try_get("in_flight")?,
        tries: row.try_get("tries")?,
        failed_alone: row.try_get("failed_alone")?,
    })
}

fn corrupt(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

/// The columns of [`Order`]. This is a macro because SQL has to be a literal.
macro_rules! columns {
    () => {
        "id, principal, customer_id, lines, status, reservation_id, hold_seconds, expires_at, correlation_id, \
         trace_id, created_at, updated_at, version, head_hash, head_entry, head_clock, head_correlation_id, epoch, tries, failed_alone, \
         coalesce(holder = 'request' AND due_at > clock_timestamp(), false) AS in_flight"
    };
}
pub(super) use columns;

/// An order to create, with its first entry, its idempotency key and a request's lease.
#[derive(Debug, Clone)]
pub struct Place {
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
pub enum Placed {
    /// The order exists.
    New,
    /// The key is taken, and nothing was written; see [`append`](journal::append()).
    KeyTaken,
    /// The deadline had passed, and nothing was written.
    TooLate,
}

/// The statement of [`place`]. It has the parameters of [`entry!`]`(claim)`, then the columns of the orders.
pub const PLACE: &str = concat!(
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
pub async fn place(
    connection: &mut PgConnection,
    all: &[Arc<Place>],
) -> Result<Step<Vec<Placed>>, sqlx::Error> {
    // A deadline may have passed while the order waited for the transaction to begin.
    let now = Instant::now();
    let is_late = |n: &Place| n.deadline <= now;
    let new: &[&Place] = &all.iter().map(AsRef::as_ref).filter(|n| !is_late(n)).collect::<Vec<_>>();
    if new.is_empty() {
        return Ok(Step::Rollback(vec![Placed::TooLate; all.len()]));
    }
    let entries = column(new, |n| &n.sealed);
    let keys = column(new, |n| &n.key);
    let placed = query(PLACE, &entries, Keys::Claim(&keys))
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
    let placed = ids(&placed)?;
    let each = column(all, |n| match n.as_ref() {
        n if is_late(n) => Placed::TooLate,
        n if placed.contains(&n.order.id) => Placed::New,
        _ => Placed::KeyTaken,
    });
    Ok(if placed.is_empty() { Step::Rollback(each) } else { Step::Commit(each) })
}

/// Time from which the reconciler may take an order after a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAttempt {
    /// Never: the order is at rest.
    AtRest,
    /// After a request's lease of this many milliseconds. The lease raises the epoch.
    Lease(i64),
    /// After a back-off of this many milliseconds.
    Backoff(i64),
}

impl NextAttempt {
    fn holder(self) -> Option<&'static str> {
        matches!(self, Self::Lease(_)).then_some("request")
    }

    fn millis(self) -> Option<i64> {
        match self {
            Self::AtRest => None,
            Self::Lease(millis) | Self::Backoff(millis) => Some(millis),
        }
    }
}

/// A transition of an order, with its entry and the replies for the keys that it completes.
#[derive(Debug, Clone)]
pub struct Advance {
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

/// The statement of [`advance`]. It has the parameters of [`entry!`]`(complete)`, then the columns of the orders.
pub const ADVANCE: &str = concat!(
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
pub async fn advance(
    connection: &mut PgConnection,
    all: &[Arc<Advance>],
) -> Result<Step<Vec<bool>>, sqlx::Error> {
    let entries = column(all, |a| &a.sealed);
    let replies: Vec<_> = all
        .iter()
        .flat_map(|a| a.replies.iter().map(|(command, reply)| (a.from.id, *command, reply)))
        .collect();
    let moved = query(ADVANCE, &entries, Keys::Complete(&replies))
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

/// Reads an order. With `principal`, only an order of that principal is found.
///
/// # Errors
/// The statement failed, or the row has a column that this release cannot read.
pub async fn get(
    connection: &mut PgConnection,
    id: Uuid,
    principal: Option<&str>,
) -> Result<Option<StoredOrder>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "SELECT ",
        columns!(),
        " FROM orders WHERE id = $1 AND ($2::text IS NULL OR principal = $2)"
    ))
    .bind(id)
    .bind(principal)
    .fetch_optional(connection)
    .await?;
    one(row.as_ref())
}

/// Reads an order of `principal` and locks its row until the transaction ends.
///
/// # Errors
/// The same as those of [`get`].
pub async fn lock(
    connection: &mut PgConnection,
    id: Uuid,
    principal: &str,
) -> Result<Option<StoredOrder>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "SELECT ",
        columns!(),
        " FROM orders WHERE id = $1 AND principal = $2 FOR UPDATE"
    ))
    .bind(id)
    .bind(principal)
    .fetch_optional(connection)
    .await?;
    one(row.as_ref())
}

fn one(row: Option<&PgRow>) -> Result<Option<StoredOrder>, sqlx::Error> {
    let order = row.map(decode).transpose()?.transpose();
    order.map_err(|fault| sqlx::Error::Decode(fault.into()))
}
