//! Reservations and the stock that they hold: confirm, release, and reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use journal::append::{column, query};
use journal::{DatabaseError, HybridTime, Keys, Rule, Sealed, State as _, entry};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::commands::{Command, Transition};
use super::{Store, StoredHead, corrupt, unguarded};
use crate::domain::stock::{Line, Sku};
use crate::domain::{Decision, Reservation, Status};

/// A reservation as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReservation {
    /// The reservation.
    pub reservation: Reservation,
    /// Correlation id of the request that created the reservation.
    pub correlation_id: Arc<str>,
    /// The newest entry of the reservation.
    pub head: StoredHead,
}

macro_rules! columns {
    () => {
        "id, order_id, status, lines::text AS lines, hold_seconds, expires_at, correlation_id, version, head_hash,
         hlc, entry_id"
    };
}
pub(super) use columns;

const READ: &str = concat!("SELECT ", columns!(), " FROM reservations WHERE id = $1");

/// Reads a reservation and locks its row. The outer query reads the clock: it gets no row before the inner query has the lock.
const LOCK: &str = concat!(
    "SELECT clock_timestamp() AS now, r.* FROM (SELECT ",
    columns!(),
    " FROM reservations WHERE id = $1 FOR NO KEY UPDATE) r"
);

/// The statement of `create`. The items are locked before, by the statement of the reserve. The parameters of
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

pub(super) const STATEMENTS: [(&str, &str); 5] = [
    ("reservations::CLOCK", CLOCK),
    ("reservations::READ", READ),
    ("reservations::LOCK", LOCK),
    ("reservations::CREATE", CREATE),
    ("reservations::MOVE", MOVE),
];

impl<'r> FromRow<'r, PgRow> for StoredReservation {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let status = Status::parse(row.try_get("status")?).ok_or_else(|| corrupt("an unknown status"))?;
        let lines = serde_json::from_str(row.try_get("lines")?).map_err(|e| sqlx::Error::Decode(e.into()))?;
        let version = row.try_get("version")?;
        Ok(Self {
            reservation: Reservation {
                id: row.try_get("id")?,
                order_id: row.try_get("order_id")?,
                status,
                lines,
                hold_seconds: row.try_get("hold_seconds")?,
                expires_at: journal::time_at(row, "expires_at")?,
                version,
            },
            correlation_id: row.try_get::<&str, _>("correlation_id")?.into(),
            head: StoredHead::read(row, status, version)?,
        })
    }
}

/// A locked reservation, with the time of the database's clock after its lock.
#[derive(Debug)]
pub struct Locked {
    /// Time after the lock.
    pub now: OffsetDateTime,
    /// The reservation.
    pub stored: StoredReservation,
}

journal::from_row!(Locked { now, ..stored });

/// Decision about the reservation with this id, which was found with the time after its lock.
pub type Decide<R> = fn(Uuid, Option<(&Reservation, OffsetDateTime)>) -> Decision<R, Reservation>;

impl Store {
    /// Reads a reservation in its present status, and moves the clock past its newest entry. It is `expired` only after the
    /// expiry is committed.
    pub async fn reservation(
        &self,
        id: Uuid,
        deadline: Instant,
    ) -> Result<Option<StoredReservation>, DatabaseError> {
        let read = self.database.read(Some(deadline), id, |connection, id| {
            Box::pin(sqlx::query_as(READ).bind(id).fetch_optional(connection))
        });
        let found: Option<StoredReservation> = read.await.inspect_err(|error| {
            if let DatabaseError::Defect(cause) = error {
                self.unreadable.note("reservations", id, cause);
            }
        })?;
        if let Some(found) = &found {
            self.clocks.adopt_head(found.head.hlc);
        }
        Ok(found)
    }
}

/// A command for a reservation that need not exist: confirm or release.
#[derive(Debug)]
pub struct ChangeReservation<R> {
    /// Name of the command in the journal.
    pub name: &'static str,
    /// Id of the reservation.
    pub id: Uuid,
    /// Decision about it.
    pub decide: Decide<R>,
}

impl<R: Rule<State = Status> + Send + Sync + 'static> Command for ChangeReservation<R> {
    type Found = Option<Locked>;
    type Rule = R;
    type Object = Reservation;

    fn name(&self) -> &'static str {
        self.name
    }

    fn aggregate_id(&self) -> Uuid {
        self.id
    }

    async fn lock(&self, connection: &mut PgConnection) -> Result<Self::Found, sqlx::Error> {
        sqlx::query_as(LOCK).bind(self.id).fetch_optional(connection).await
    }

    fn decide(&self, found: &mut Self::Found) -> Decision<R, Reservation> {
        (self.decide)(self.id, found.as_ref().map(|found| (&found.stored.reservation, found.now)))
    }

    fn head(found: &Self::Found) -> Option<&StoredHead> {
        found.as_ref().map(|found| &found.stored.head)
    }

    async fn write(
        connection: &mut PgConnection,
        found: &Self::Found,
        transition: Transition<'_, Reservation>,
    ) -> Result<(), sqlx::Error> {
        let Transition { after, sealed, claim, reply } = &transition;
        match found {
            None => create(connection, &[&transition], sealed.at).await,
            Some(Locked { now, .. }) => {
                leave_held(connection, &[(after, sealed)], *now, Keys::Record(&[(claim, reply)])).await
            }
        }
    }
}

/// Reads the hybrid time of a reservation's newest entry; `None` when there is no such reservation.
pub(super) async fn clock(
    connection: &mut PgConnection,
    id: Uuid,
) -> Result<Option<HybridTime>, sqlx::Error> {
    let time: Option<String> = sqlx::query_scalar(CLOCK).bind(id).fetch_optional(connection).await?;
    time.map(|time| time.parse().map_err(|_| corrupt("a malformed hybrid time"))).transpose()
}

/// Writes new reservations with their entries and keys. Those in `Held` add their lines to the items' `held`; the items are
/// locked before.
pub(super) async fn create(
    connection: &mut PgConnection,
    new: &[&Transition<'_, Reservation>],
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let entries = column(new, |n| &n.sealed);
    let keys = column(new, |n| (n.claim, &n.reply));
    let mut held = BTreeMap::<&str, i64>::new();
    for new in new.iter().filter(|n| n.after.status == Status::Held) {
        for line in &*new.after.lines {
            *held.entry(line.sku.as_str()).or_default() += line.quantity.get();
        }
    }
    let done = query(CREATE, &entries, Keys::Record(&keys))
        .bind(column(new, |n| n.after.id))
        .bind(column(new, |n| n.after.order_id))
        .bind(column(new, |n| n.after.status.as_str()))
        .bind(column(new, |n| lines_json(&n.after.lines)))
        .bind(column(new, |n| n.after.hold_seconds))
        .bind(column(new, |n| n.after.expires_at))
        .bind(column(new, |n| &*n.sealed.correlation_id))
        .bind(column(new, |n| n.sealed.version))
        .bind(column(new, |n| n.sealed.hash.as_slice()))
        .bind(column(new, |n| n.sealed.hlc.to_string()))
        .bind(column(new, |n| n.sealed.id))
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

/// Moves locked reservations out of `held`, to the status that each has now: takes their lines out of the items' `held`,
/// and the lines of confirmed reservations out of `on_hand` too. Appends the entries and completes `keys`.
pub(super) async fn leave_held(
    connection: &mut PgConnection,
    moves: &[(&Reservation, &Sealed)],
    now: OffsetDateTime,
    keys: Keys<'_>,
) -> Result<(), sqlx::Error> {
    let stock = sums(moves);
    let (moved, done): (i64, i64) = sqlx::query_as(MOVE)
        .bind(column(moves, |(after, _)| after.id))
        .bind(column(moves, |(after, _)| after.status.as_str()))
        .bind(column(moves, |(_, sealed)| sealed.version))
        .bind(column(moves, |(_, sealed)| sealed.hash.as_slice()))
        .bind(column(moves, |(_, sealed)| sealed.hlc.to_string()))
        .bind(column(moves, |(_, sealed)| sealed.id))
        .bind(now)
        .bind(column(&stock, |(sku, _)| sku.as_str()))
        .bind(column(&stock, |(_, (held, _))| *held))
        .bind(column(&stock, |(_, (_, shipped))| *shipped))
        .fetch_one(&mut *connection)
        .await?;
    if usize::try_from(moved) != Ok(stock.len()) {
        return Err(unguarded("an item"));
    }
    if usize::try_from(done) != Ok(moves.len()) {
        return Err(unguarded("a reservation"));
    }
    journal::append(connection, &column(moves, |(_, sealed)| *sealed), keys).await?;
    Ok(())
}

/// For each SKU, in order: the number of pieces that leave `held`, and how many of them are shipped.
fn sums<'a>(moves: &[(&'a Reservation, &Sealed)]) -> Vec<(&'a Sku, (i64, i64))> {
    let mut sums = BTreeMap::<_, (i64, i64)>::new();
    for (after, _) in moves {
        for line in &*after.lines {
            let (held, shipped) = sums.entry(&line.sku).or_default();
            *held += line.quantity.get();
            if after.status == Status::Confirmed {
                *shipped += line.quantity.get();
            }
        }
    }
    sums.into_iter().collect()
}

fn lines_json(lines: &[Line]) -> String {
    serde_json::to_string(lines).expect("lines hold only strings and integers")
}
