//! Reading a service's database: its tables and its journal as they were at one moment.
//!
//! A row can then be held against its journal exactly, even while the service is running. The session may be that
//! of any role that can read the tables, the services' own included.

use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use journal::entry::{hash, hex};
use journal::feed::{Cursor, InvalidCursor, Page, Refused, read};

use crate::{
    ItemRow, KeyRow, Line, Observed, OrderRow, Recorded, ReservationRow, Session, Side, StoredReply, Tables,
};

/// Entries read at once.
const PAGE: i64 = 1_000;

/// What one service's database holds.
#[derive(Debug)]
pub struct Dump {
    /// The service's own tables; those of the other service are empty.
    pub tables: Tables,
    /// In commit order.
    pub journal: Vec<Recorded>,
    /// Rows of the journal's table at the same moment: as many as entries, unless the feed does not give one.
    pub journal_rows: i64,
    /// Every session at the database but this one, as far as the role may see it.
    pub sessions: Vec<Session>,
    /// The database's clock.
    pub now: OffsetDateTime,
}

/// Why a database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The database refused or did not answer.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A row's lines, or an entry, are not what they should be.
    #[error("{place} cannot be read: {source}")]
    Unreadable {
        /// Which row.
        place: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The journal's own cursor was refused.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// The journal's feed would be incomplete.
    #[error(transparent)]
    Feed(#[from] Refused),
}

/// Reads everything the checker wants to know of one service, in a read-only transaction that sees one moment.
///
/// # Errors
/// The database cannot be read, or holds what no service writes.
pub async fn dump(connection: &mut PgConnection, side: Side) -> Result<Dump, DumpError> {
    sqlx::raw_sql("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *connection)
        .await?;
    let tables = match side {
        Side::Order => Tables { orders: orders(connection).await?, ..Tables::default() },
        Side::Inventory => Tables {
            reservations: reservations(connection).await?,
            items: items(connection).await?,
            ..Tables::default()
        },
    };
    let tables = Tables { keys: keys(connection, side).await?, ..tables };
    let journal = journal(connection, side).await?;
    let journal_rows = sqlx::query_scalar("SELECT count(*) FROM journal").fetch_one(&mut *connection).await?;
    let now = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *connection).await?;
    let sessions = sessions(connection, side).await?;
    sqlx::raw_sql("COMMIT").execute(connection).await?;
    Ok(Dump { tables, journal, journal_rows, sessions, now })
}

/// What is still under way in a service's database, in words; `None` when it is at rest: every key has its reply,
/// every order is decided, every hold that ran out has been given back, and no session is in a transaction.
///
/// # Errors
/// The database cannot be read.
pub async fn under_way(connection: &mut PgConnection, side: Side) -> Result<Option<String>, sqlx::Error> {
    let rows = match side {
        Side::Order => {
            "SELECT 'order ' || id || ' ' || status FROM orders
             WHERE status NOT IN ('reserved', 'rejected', 'confirmed', 'cancelled', 'expired')
                OR (status = 'reserved' AND expires_at < clock_timestamp())"
        }
        Side::Inventory => {
            "SELECT 'reservation ' || id || ' past its time' FROM reservations
             WHERE status = 'held' AND expires_at < clock_timestamp()"
        }
    };
    let both = [
        rows,
        "SELECT 'a key of ' || command || ' without a reply' FROM idempotency WHERE completed_at IS NULL",
        "SELECT 'a session in a transaction' FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()
           AND (state LIKE 'idle in transaction%' OR state = 'active')",
    ];
    for query in both {
        let found: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut *connection).await?;
        if let Some(first) = found.first() {
            return Ok(Some(format!("{first}, one of {}", found.len())));
        }
    }
    Ok(None)
}

impl Observed {
    /// What both databases say, each of one moment; the order service's has to be the older one.
    pub fn of_dumps(order: &mut Dump, inventory: &mut Dump) -> Self {
        let take = |dump: &mut Dump| (std::mem::take(&mut dump.tables), std::mem::take(&mut dump.sessions));
        let ((of_order, order_sessions), (of_inventory, inventory_sessions)) = (take(order), take(inventory));
        Self {
            one_snapshot: true,
            now: Some(inventory.now),
            tables: Some(Tables {
                orders: of_order.orders,
                keys: [of_order.keys, of_inventory.keys].concat(),
                reservations: of_inventory.reservations,
                items: of_inventory.items,
            }),
            sessions: [order_sessions, inventory_sessions].concat(),
            ..Self::default()
        }
    }
}

async fn orders(connection: &mut PgConnection) -> Result<Vec<OrderRow>, DumpError> {
    let rows: Vec<OrderColumns> = sqlx::query_as(
        "SELECT id, principal, status, version, encode(head_hash, 'hex') AS head_hash, lines::text AS lines,
             reservation_id, expires_at FROM orders",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(OrderColumns::row).collect()
}

async fn reservations(connection: &mut PgConnection) -> Result<Vec<ReservationRow>, DumpError> {
    let rows: Vec<ReservationColumns> = sqlx::query_as(
        "SELECT id, order_id, status, version, encode(head_hash, 'hex') AS head_hash, lines::text AS lines
         FROM reservations",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(ReservationColumns::row).collect()
}

async fn items(connection: &mut PgConnection) -> Result<Vec<ItemRow>, DumpError> {
    let rows: Vec<(String, i64, i64, i64, String)> =
        sqlx::query_as("SELECT sku, on_hand, held, version, encode(head_hash, 'hex') FROM items")
            .fetch_all(connection)
            .await?;
    let item = |(sku, on_hand, held, version, head_hash)| ItemRow { sku, on_hand, held, version, head_hash };
    Ok(rows.into_iter().map(item).collect())
}

async fn keys(connection: &mut PgConnection, side: Side) -> Result<Vec<KeyRow>, DumpError> {
    let rows: Vec<KeyColumns> = sqlx::query_as(
        "SELECT principal, encode(key_hash, 'hex') AS key_hash, aggregate_id, status, body FROM idempotency",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|key| key.row(side)).collect())
}

async fn journal(connection: &mut PgConnection, side: Side) -> Result<Vec<Recorded>, DumpError> {
    let (mut journal, mut cursor) = (Vec::new(), Cursor::start());
    loop {
        let Page { items, next, more, .. } = read(&mut *connection, side.as_str(), cursor, PAGE).await??;
        for item in &items {
            let place = || format!("the {side} journal's entry with seq {}", item.seq);
            let entry = Recorded::from_item(item);
            journal.push(entry.map_err(|source| DumpError::Unreadable { place: place(), source })?);
        }
        match next.filter(|_| more) {
            Some(next) => cursor = next.parse()?,
            None => return Ok(journal),
        }
    }
}

async fn sessions(connection: &mut PgConnection, side: Side) -> Result<Vec<Session>, DumpError> {
    let sessions: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT pid, CASE WHEN state LIKE 'idle in transaction%'
             THEN (1000 * extract(epoch FROM clock_timestamp() - state_change))::bigint ELSE 0 END
         FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND state IS NOT NULL",
    )
    .fetch_all(connection)
    .await?;
    let session = |(pid, idle): (i32, i64)| Session {
        service: side,
        pid,
        idle_in_transaction_ms: u64::try_from(idle).unwrap_or(0),
    };
    Ok(sessions.into_iter().map(session).collect())
}

#[derive(FromRow)]
struct KeyColumns {
    principal: String,
    key_hash: String,
    aggregate_id: Uuid,
    status: Option<i16>,
    body: Option<Vec<u8>>,
}

impl KeyColumns {
    fn row(self, service: Side) -> KeyRow {
        let status = self.status.and_then(|status| u16::try_from(status).ok());
        let reply =
            status.zip(self.body).map(|(status, body)| StoredReply { status, body_hash: hex(&hash(&body)) });
        KeyRow {
            service,
            principal: self.principal,
            key_hash: self.key_hash,
            aggregate_id: Some(self.aggregate_id),
            reply,
        }
    }
}

#[derive(FromRow)]
struct OrderColumns {
    id: Uuid,
    principal: String,
    status: String,
    version: i64,
    head_hash: String,
    lines: String,
    reservation_id: Option<Uuid>,
    expires_at: Option<OffsetDateTime>,
}

impl OrderColumns {
    fn row(self) -> Result<OrderRow, DumpError> {
        Ok(OrderRow {
            lines: lines("order", self.id, &self.lines)?,
            id: self.id,
            principal: self.principal,
            status: self.status,
            version: self.version,
            head_hash: self.head_hash,
            reservation_id: self.reservation_id,
            expires_at: self.expires_at,
        })
    }
}

#[derive(FromRow)]
struct ReservationColumns {
    id: Uuid,
    order_id: Option<Uuid>,
    status: String,
    version: i64,
    head_hash: String,
    lines: String,
}

impl ReservationColumns {
    fn row(self) -> Result<ReservationRow, DumpError> {
        Ok(ReservationRow {
            lines: lines("reservation", self.id, &self.lines)?,
            id: self.id,
            order_id: self.order_id,
            status: self.status,
            version: self.version,
            head_hash: self.head_hash,
        })
    }
}

fn lines(kind: &str, id: Uuid, json: &str) -> Result<Vec<Line>, DumpError> {
    serde_json::from_str(json)
        .map_err(|source| DumpError::Unreadable { place: format!("the lines of {kind} {id}"), source })
}
