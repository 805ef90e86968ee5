//! An order as its row has it, and the reads of one row.

use std::sync::Arc;

use inventory_api::Line;
use journal::{Head, HybridTime, State};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use time::OffsetDateTime;
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

/// Number of tries that failed while other orders were served, from which an order is stuck. Its back-offs are longer then,
/// and a separate sweep takes it.
pub const STUCK: i32 = 3;

/// An order whose status this release may not know.
pub type StoredOrder = Order<StoredStatus>;

/// A status as the row has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
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

impl StoredStatus {
    /// The status, if this release knows it.
    pub const fn known(&self) -> Option<Status> {
        match self {
            Self::Known(status) => Some(*status),
            Self::Unknown(_) => None,
        }
    }
}

impl From<Status> for StoredStatus {
    fn from(status: Status) -> Self {
        Self::Known(status)
    }
}

impl PartialEq<Status> for StoredStatus {
    fn eq(&self, other: &Status) -> bool {
        self.known() == Some(*other)
    }
}

impl Order {
    /// Head of the order's journal, for the next entry.
    pub fn head(&self) -> Head {
        Head { state: self.status.as_str(), version: self.version, hash: self.head_hash }
    }
}

/// Reads one row with the status that `parse` reads. The outer error concerns the statement, the inner one the row,
/// because a fault of one row does not concern the next.
pub(super) fn decode<S>(
    row: &PgRow,
    parse: fn(&str) -> Option<S>,
) -> Result<Result<Order<S>, Unreadable>, sqlx::Error> {
    let id = row.try_get("id")?;
    Ok(columns_of(row, id, parse).map_err(|error| Unreadable { id, why: error.to_string() }))
}

/// Reads a status that this release may not know.
pub(super) const ANY_STATUS: fn(&str) -> Option<StoredStatus> = |name| {
    Some(Status::parse(name).map_or_else(|| StoredStatus::Unknown(name.to_owned()), StoredStatus::Known))
};

/// Reads rows. Gives the orders and the rows that this release cannot read.
pub(super) fn decode_all<S>(
    rows: &[PgRow],
    parse: fn(&str) -> Option<S>,
) -> Result<(Vec<Order<S>>, Vec<Unreadable>), sqlx::Error> {
    let (mut orders, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        match decode(row, parse)? {
            Ok(order) => orders.push(order),
            Err(fault) => unreadable.push(fault),
        }
    }
    Ok((orders, unreadable))
}

fn columns_of<S>(row: &PgRow, id: Uuid, parse: fn(&str) -> Option<S>) -> Result<Order<S>, sqlx::Error> {
    let status: &str = row.try_get("status")?;
    let hash: &[u8] = row.try_get("head_hash")?;
    Ok(Order {
        id,
        principal: row.try_get::<&str, _>("principal")?.into(),
        customer_id: row.try_get::<&str, _>("customer_id")?.into(),
        lines: row.try_get::<Json<Vec<Line>>, _>("lines")?.0.into(),
        status: parse(status).ok_or_else(|| corrupt(&format!("the status {status:?} is unknown")))?,
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

pub(super) fn corrupt(what: &str) -> sqlx::Error {
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

/// Reads an order. With `principal`, only an order of that principal is found.
///
/// # Errors
/// The statement failed, or the row has a column that this release cannot read.
pub(super) async fn get(
    connection: &mut PgConnection,
    id: Uuid,
    principal: Option<&str>,
) -> Result<Option<StoredOrder>, sqlx::Error> {
    let statement =
        concat!("SELECT ", columns!(), " FROM orders WHERE id = $1 AND ($2::text IS NULL OR principal = $2)");
    let row = sqlx::query(statement).bind(id).bind(principal).fetch_optional(connection).await?;
    row.map(|row| columns_of(&row, id, ANY_STATUS)).transpose()
}

/// Reads an order of `principal` and locks its row until the transaction ends. The inner error is a status that this
/// release does not know.
///
/// # Errors
/// The same as those of [`get`].
pub(super) async fn lock(
    connection: &mut PgConnection,
    id: Uuid,
    principal: &str,
) -> Result<Option<Result<Order, String>>, sqlx::Error> {
    let statement =
        concat!("SELECT ", columns!(), " FROM orders WHERE id = $1 AND principal = $2 FOR UPDATE");
    let Some(row) = sqlx::query(statement).bind(id).bind(principal).fetch_optional(connection).await? else {
        return Ok(None);
    };
    let status: &str = row.try_get("status")?;
    match Status::parse(status) {
        Some(_) => columns_of(&row, id, Status::parse).map(|order| Some(Ok(order))),
        None => Ok(Some(Err(status.to_owned()))),
    }
}
