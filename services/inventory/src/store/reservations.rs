//! Reservations and the stock that they hold.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use journal::append::{column, query};
use journal::{Claim, HybridTime, Keys, Sealed, State as _, StoredReply, entry};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow as _, PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{StoredHead, corrupt, unguarded};
use crate::domain::ReservationState;
use crate::domain::stock::{Line, Sku, Stock};

/// A reservation in its present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Id of the reservation.
    pub id: Uuid,
    /// Id of the order; `None` for a reservation that was voided before its reserve arrived.
    pub order_id: Option<Uuid>,
    /// State of the reservation.
    pub state: ReservationState,
    /// Lines that the reservation holds or held.
    pub lines: Arc<[Line]>,
    /// Requested length of the hold, in seconds; `None` for a reservation that was voided before its reserve arrived.
    pub hold_seconds: Option<i64>,
    /// End of the hold; `None` for a reservation that never held stock.
    pub expires_at: Option<OffsetDateTime>,
    /// Correlation id of the request that created the reservation.
    pub correlation_id: Arc<str>,
    /// The newest entry of the reservation.
    pub head: StoredHead,
}

/// Name of the constraint that at most one reservation of an order is held or confirmed.
pub const ONE_LIVE_PER_ORDER: &str = "reservations_one_live_per_order";

macro_rules! columns {
    () => {
        "id, order_id, status, lines::text AS lines, hold_seconds, expires_at, correlation_id, version, head_hash,
         hlc, entry_id"
    };
}

const READ: &str = concat!("SELECT ", columns!(), " FROM reservations WHERE id = $1");

/// The statement of [`lock`]. The outer query reads the clock: it gets no row before the inner query has the lock.
const LOCK: &str = concat!(
    "SELECT clock_timestamp() AS now, r.* FROM (SELECT ",
    columns!(),
    " FROM reservations WHERE id = $1 FOR NO KEY UPDATE) r"
);

/// The statement of [`lock_to_reserve`]. It locks the reservations first. If there are none, it locks the items in SKU
/// order. It reads the clock after both.
pub const LOCK_TO_RESERVE: &str = concat!(
    "WITH known AS MATERIALIZED (SELECT ",
    columns!(),
    " FROM reservations WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE),
     stock AS MATERIALIZED (
        SELECT sku, version, on_hand, held FROM items
        WHERE sku = ANY($2) AND NOT EXISTS (SELECT FROM known)
        ORDER BY sku FOR NO KEY UPDATE)
     SELECT clock_timestamp() AS now, s.skus, s.versions, s.on_hands, s.helds, known.*
     FROM (SELECT array_agg(sku) AS skus, array_agg(version) AS versions, array_agg(on_hand) AS on_hands,
                  array_agg(held) AS helds FROM stock) s
     LEFT JOIN known ON true"
);

/// The statement of [`due`]. Due holds are found by the time at which the transaction began, because the index can be
/// searched by it. Pages are sorted by (end, id), so that a sweep gets past any number of rows that stay due because they
/// cannot be expired.
const DUE: &str = "SELECT id, expires_at::text FROM reservations
    WHERE status = 'held' AND expires_at <= now() AND (expires_at, id) > ($1::text::timestamptz, $2)
    ORDER BY expires_at, id LIMIT $3";

/// The statement of [`lock_due`]. The clock is read after the lock.
const LOCK_DUE: &str = concat!(
    "SELECT clock_timestamp() AS now, r.* FROM (SELECT ",
    columns!(),
    " FROM reservations WHERE id = ANY ($1) AND status = 'held' AND expires_at <= now()
      ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) r"
);

/// The statement of [`create`]. The items are locked before, by [`LOCK_TO_RESERVE`]. The parameters of
/// [`entry!`]`(record)` come first.
pub const CREATE: &str = concat!(
    "WITH moved AS (
        UPDATE items i SET held = i.held + l.quantity
        FROM unnest($33::text[], $34::bigint[]) AS l (sku, quantity)
        WHERE i.sku = l.sku RETURNING 1),
     made AS (
        INSERT INTO reservations (id, order_id, status, lines, hold_seconds, expires_at, correlation_id, version,
            head_hash, hlc, entry_id, created_at, updated_at)
        SELECT id, order_id, status, lines::jsonb, hold_seconds, expires_at, correlation_id, version, head_hash, hlc,
            entry_id, $32, $32
        FROM unnest($21::uuid[], $22::uuid[], $23::text[], $24::text[], $25::bigint[], $26::timestamptz[], $27::text[],
            $28::bigint[], $29::bytea[], $30::text[], $31::uuid[])
            AS r (id, order_id, status, lines, hold_seconds, expires_at, correlation_id, version, head_hash, hlc, entry_id)
        RETURNING id), ",
    entry!(record for "made"),
    " SELECT count(*) FROM moved"
);

/// The statement of [`leave_held`]. It locks the items in SKU order, takes the lines out of `held` and the shipped lines
/// out of `on_hand`, and moves the reservations, which are locked before.
const MOVE: &str = "WITH locked AS MATERIALIZED (
        SELECT sku FROM items WHERE sku = ANY($8) ORDER BY sku FOR NO KEY UPDATE),
    moved AS (
        UPDATE items i SET held = i.held - l.quantity, on_hand = i.on_hand - l.shipped
        FROM locked, unnest($8::text[], $9::bigint[], $10::bigint[]) AS l (sku, quantity, shipped)
        WHERE locked.sku = l.sku AND i.sku = l.sku RETURNING 1),
    done AS (
        UPDATE reservations r SET status = m.status, version = m.version, head_hash = m.head_hash, hlc = m.hlc,
            entry_id = m.entry_id, updated_at = $7
        FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bytea[], $5::text[], $6::uuid[])
            AS m (id, status, version, head_hash, hlc, entry_id)
        WHERE r.id = m.id AND r.version = m.version - 1 RETURNING 1)
    SELECT (SELECT count(*) FROM moved), (SELECT count(*) FROM done)";

const CLOCK: &str = "SELECT hlc FROM reservations WHERE id = $1";

const FIRST_ENTRY: &str = "SELECT body FROM journal WHERE aggregate_id = $1 AND version = 1";

pub(super) const STATEMENTS: [(&str, &str); 9] = [
    ("reservations::CLOCK", CLOCK),
    ("reservations::READ", READ),
    ("reservations::LOCK", LOCK),
    ("reservations::LOCK_TO_RESERVE", LOCK_TO_RESERVE),
    ("reservations::DUE", DUE),
    ("reservations::LOCK_DUE", LOCK_DUE),
    ("reservations::CREATE", CREATE),
    ("reservations::MOVE", MOVE),
    ("reservations::FIRST_ENTRY", FIRST_ENTRY),
];

struct Row {
    id: Uuid,
    order_id: Option<Uuid>,
    status: String,
    lines: String,
    hold_seconds: Option<i64>,
    expires_at: Option<OffsetDateTime>,
    correlation_id: String,
    version: i64,
    head_hash: Vec<u8>,
    hlc: String,
    entry_id: Uuid,
}

impl<'r> sqlx::FromRow<'r, PgRow> for Row {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            order_id: row.try_get("order_id")?,
            status: row.try_get("status")?,
            lines: row.try_get("lines")?,
            hold_seconds: row.try_get("hold_seconds")?,
            expires_at: journal::time_at(row, "expires_at")?,
            correlation_id: row.try_get("correlation_id")?,
            version: row.try_get("version")?,
            head_hash: row.try_get("head_hash")?,
            hlc: row.try_get("hlc")?,
            entry_id: row.try_get("entry_id")?,
        })
    }
}

impl TryFrom<Row> for Reservation {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.id,
            order_id: row.order_id,
            state: ReservationState::parse(&row.status).ok_or_else(|| corrupt("an unknown status"))?,
            lines: serde_json::from_str(&row.lines).map_err(|e| sqlx::Error::Decode(e.into()))?,
            hold_seconds: row.hold_seconds,
            expires_at: row.expires_at,
            correlation_id: row.correlation_id.into(),
            head: StoredHead::read(row.version, row.head_hash, &row.hlc, row.entry_id)?,
        })
    }
}

#[derive(sqlx::FromRow)]
struct TimedRow {
    now: OffsetDateTime,
    #[sqlx(flatten)]
    row: Row,
}

/// Reads a reservation.
pub async fn read(connection: &mut PgConnection, id: Uuid) -> Result<Option<Reservation>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(READ).bind(id).fetch_optional(connection).await?;
    row.map(Reservation::try_from).transpose()
}

/// Reads the hybrid time of a reservation's newest entry; `None` when there is no such reservation.
pub async fn clock(connection: &mut PgConnection, id: Uuid) -> Result<Option<HybridTime>, sqlx::Error> {
    let time: Option<String> = sqlx::query_scalar(CLOCK).bind(id).fetch_optional(connection).await?;
    time.map(|time| time.parse().map_err(|_| corrupt("a malformed hybrid time"))).transpose()
}

/// Reads a reservation and locks its row. The time is the database's clock after the lock.
pub async fn lock(
    connection: &mut PgConnection,
    id: Uuid,
) -> Result<Option<(OffsetDateTime, Reservation)>, sqlx::Error> {
    let row: Option<TimedRow> = sqlx::query_as(LOCK).bind(id).fetch_optional(connection).await?;
    row.map(|timed| Ok((timed.now, timed.row.try_into()?))).transpose()
}

/// Position of a pass over the due holds: end and id of the last hold. The end is text because it may be infinite.
#[derive(Debug, Clone)]
pub struct DueCursor(String, Uuid);

impl DueCursor {
    /// The position before the first hold.
    pub fn start() -> Self {
        Self("-infinity".to_owned(), Uuid::nil())
    }
}

/// Finds at most `limit` due holds after `cursor`, and the position of the last one.
pub async fn due(
    connection: &mut PgConnection,
    cursor: &DueCursor,
    limit: i64,
) -> Result<(Vec<Uuid>, Option<DueCursor>), sqlx::Error> {
    let rows: Vec<(Uuid, String)> =
        sqlx::query_as(DUE).bind(&cursor.0).bind(cursor.1).bind(limit).fetch_all(connection).await?;
    let next = rows.last().map(|(id, end)| DueCursor(end.clone(), *id));
    Ok((rows.into_iter().map(|(id, _)| id).collect(), next))
}

/// A due hold with the time after its lock, or the id and fault of a row that cannot be read.
pub type Due = Result<(OffsetDateTime, Reservation), (Uuid, String)>;

/// Locks the holds of `ids` that are still due, without those that another transaction has locked.
pub async fn lock_due(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Due>, sqlx::Error> {
    let rows = sqlx::query(LOCK_DUE).bind(ids).fetch_all(connection).await?;
    let read = |row: &PgRow| -> Result<_, sqlx::Error> {
        let TimedRow { now, row } = TimedRow::from_row(row)?;
        Ok((now, row.try_into()?))
    };
    rows.iter()
        .map(|row| {
            let id = row.try_get("id")?;
            Ok(read(row).map_err(|fault| (id, fault.to_string())))
        })
        .collect()
}

/// Result of [`lock_to_reserve`].
#[derive(Debug)]
pub enum ReserveLock {
    /// Some of the reservations exist; they are locked, and no items are.
    Taken {
        /// One of them.
        first: Reservation,
        /// All of them.
        ids: Vec<Uuid>,
    },
    /// There is none; the items are locked.
    Free {
        /// Time of the database's clock after the locks.
        now: OffsetDateTime,
        /// Stock of the items that exist, by SKU.
        stock: HashMap<String, Stock>,
    },
}

/// Locks the rows that new reservations depend on.
pub async fn lock_to_reserve(
    connection: &mut PgConnection,
    ids: &[Uuid],
    skus: &[&str],
) -> Result<ReserveLock, sqlx::Error> {
    let rows = sqlx::query(LOCK_TO_RESERVE).bind(ids).bind(skus).fetch_all(connection).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    if row.try_get::<Option<Uuid>, _>("id")?.is_some() {
        let ids = rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
        return Ok(ReserveLock::Taken { first: Row::from_row(row)?.try_into()?, ids });
    }
    let numbers = |name| row.try_get::<Option<Vec<i64>>, _>(name).map(Option::unwrap_or_default);
    let skus = row.try_get::<Option<Vec<String>>, _>("skus")?.unwrap_or_default();
    let values = numbers("versions")?.into_iter().zip(numbers("on_hands")?).zip(numbers("helds")?);
    let stock = values.map(|((version, on_hand), held)| Stock { held, on_hand, version });
    Ok(ReserveLock::Free { now: row.try_get("now")?, stock: skus.into_iter().zip(stock).collect() })
}

/// A reservation to create, with its entry and the key that it completes.
#[derive(Debug)]
pub struct New<'a> {
    /// The reservation after its first entry.
    pub reservation: Reservation,
    /// The first entry, which has the reason.
    pub sealed: Sealed,
    /// Claim of the idempotency key.
    pub claim: &'a Claim,
    /// Final reply to the key.
    pub reply: StoredReply,
}

/// Writes new reservations. Those in `Held` add their lines to the items' `held`. Call [`lock_to_reserve`] before.
pub async fn create(
    connection: &mut PgConnection,
    new: &[&New<'_>],
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let entries = column(new, |n| &n.sealed);
    let keys = column(new, |n| (n.claim, &n.reply));
    let mut held = BTreeMap::<&str, i64>::new();
    for new in new.iter().filter(|n| n.reservation.state == ReservationState::Held) {
        for line in &*new.reservation.lines {
            *held.entry(line.sku.as_str()).or_default() += line.quantity.get();
        }
    }
    let done = query(CREATE, &entries, Keys::Record(&keys))
        .bind(column(new, |n| n.reservation.id))
        .bind(column(new, |n| n.reservation.order_id))
        .bind(column(new, |n| n.reservation.state.as_str()))
        .bind(column(new, |n| lines_json(&n.reservation.lines)))
        .bind(column(new, |n| n.reservation.hold_seconds))
        .bind(column(new, |n| n.reservation.expires_at))
        .bind(column(new, |n| &*n.reservation.correlation_id))
        .bind(column(new, |n| n.reservation.head.version))
        .bind(column(new, |n| n.reservation.head.hash.as_slice()))
        .bind(column(new, |n| n.reservation.head.hlc.to_string()))
        .bind(column(new, |n| n.reservation.head.entry_id))
        .bind(now)
        .bind(held.keys().copied().collect::<Vec<_>>())
        .bind(held.values().copied().collect::<Vec<_>>())
        .fetch_one(connection)
        .await?;
    if usize::try_from(done.try_get::<i64, _>(0)?) != Ok(held.len()) {
        return Err(unguarded("an item"));
    }
    Ok(())
}

/// The move of a locked reservation out of `held`.
#[derive(Debug)]
pub struct Move<'a> {
    /// The reservation as it was locked.
    pub from: &'a Reservation,
    /// State after the move.
    pub to: ReservationState,
    /// Entry of the move.
    pub sealed: &'a Sealed,
}

/// Moves locked reservations out of `held`: takes their lines out of the items' `held`, and the lines of confirmed
/// reservations out of `on_hand` too. Appends the entries and completes `keys`.
pub async fn leave_held(
    connection: &mut PgConnection,
    moves: &[Move<'_>],
    now: OffsetDateTime,
    keys: Keys<'_>,
) -> Result<(), sqlx::Error> {
    let stock = sums(moves);
    let heads: Vec<StoredHead> = moves.iter().map(|m| StoredHead::of(m.sealed)).collect();
    let (moved, done): (i64, i64) = sqlx::query_as(MOVE)
        .bind(moves.iter().map(|m| m.from.id).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.to.as_str()).collect::<Vec<_>>())
        .bind(heads.iter().map(|head| head.version).collect::<Vec<_>>())
        .bind(heads.iter().map(|head| head.hash.as_slice()).collect::<Vec<_>>())
        .bind(heads.iter().map(|head| head.hlc.to_string()).collect::<Vec<_>>())
        .bind(heads.iter().map(|head| head.entry_id).collect::<Vec<_>>())
        .bind(now)
        .bind(stock.iter().map(|(sku, _)| sku.as_str()).collect::<Vec<_>>())
        .bind(stock.iter().map(|(_, (held, _))| *held).collect::<Vec<_>>())
        .bind(stock.iter().map(|(_, (_, shipped))| *shipped).collect::<Vec<_>>())
        .fetch_one(&mut *connection)
        .await?;
    if usize::try_from(moved) != Ok(stock.len()) {
        return Err(unguarded("an item"));
    }
    if usize::try_from(done) != Ok(moves.len()) {
        return Err(unguarded("a reservation"));
    }
    let entries: Vec<&Sealed> = moves.iter().map(|m| m.sealed).collect();
    journal::append(connection, &entries, keys).await?;
    Ok(())
}

/// For each SKU, in order: the number of pieces that leave `held`, and how many of them are shipped.
fn sums<'a>(moves: &[Move<'a>]) -> Vec<(&'a Sku, (i64, i64))> {
    let mut sums = BTreeMap::<_, (i64, i64)>::new();
    for Move { from, to, .. } in moves {
        for line in &*from.lines {
            let (held, shipped) = sums.entry(&line.sku).or_default();
            *held += line.quantity.get();
            if *to == ReservationState::Confirmed {
                *shipped += line.quantity.get();
            }
        }
    }
    sums.into_iter().collect()
}

/// Reads the inputs of the decision in a reservation's first entry.
pub async fn first_inputs(connection: &mut PgConnection, id: Uuid) -> Result<Value, sqlx::Error> {
    let body: Vec<u8> = sqlx::query_scalar(FIRST_ENTRY).bind(id).fetch_one(connection).await?;
    let entry: journal::Entry = serde_json::from_slice(&body).map_err(|e| sqlx::Error::Decode(e.into()))?;
    Ok(entry.inputs)
}

fn lines_json(lines: &[Line]) -> String {
    serde_json::to_string(lines).expect("lines hold only strings and integers")
}
