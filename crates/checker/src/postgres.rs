//! Reader of a service's database: its tables and its journal at one moment.
//!
//! A row can then be compared exactly with its journal, even while the service is running. Any role that can read the
//! tables will do, the services' own roles included.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use journal::Entry;
use journal::ITEM_NAMESPACE;
use journal::feed::{Cursor, InvalidCursor, Page, Refused, read};

use crate::{
    Checker, ClientReply, Contract, HiddenRow, ItemRow, JournalRow, JournalTable, KeyRow, Line, MiscopiedRow,
    Observed, OrderRow, Recorded, Report, ReservationRow, Session, Side, StoredReply, Tables, UnreadRow,
    Unreadable,
};

/// Journal entries per page.
const PAGE: i64 = 1_000;

/// The contents of one service's database.
#[derive(Debug)]
pub struct Dump {
    /// The service's own tables; those of the other service are empty.
    pub tables: Tables,
    /// Rows of those tables that cannot be read.
    pub unread: Vec<UnreadRow>,
    /// The journal in commit order, as the feed gives it.
    pub journal: Vec<JournalRow>,
    /// The number of rows in the journal's table, whether or not the feed gives them.
    pub journal_rows: i64,
    /// The first rows, by `seq`, that the feed does not give; 10 at most.
    pub hidden: Vec<HiddenRow>,
    /// Entries with a column that differs from its body.
    pub miscopied: Vec<MiscopiedRow>,
    /// Every session of the database but the reader's own, as far as the role may see it.
    pub sessions: Vec<Session>,
}

/// The contents of both databases: both journals in commit order, tables and sessions.
#[derive(Debug)]
pub struct PairDump {
    /// Each journal row with its service.
    pub entries: Vec<(Side, JournalRow)>,
    /// Tables, sessions, and inventory's clock.
    pub observed: Observed,
}

impl PairDump {
    /// Checks both journals and all observations against the contract.
    pub fn check(&self, contract: &Contract<'_>) -> Report {
        let mut checker = Checker::new(contract);
        for (side, row) in &self.entries {
            checker.row(*side, row);
        }
        checker.finish(&self.observed)
    }

    /// Returns the entries that this release can read.
    pub fn into_entries(self) -> Vec<(Side, Recorded)> {
        self.entries.into_iter().filter_map(|(side, row)| Some((side, row.entry()?))).collect()
    }
}

/// Reasons why a database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The database refused a statement or did not answer.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The feed refused a cursor that it had given.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// The journal's feed would be incomplete.
    #[error(transparent)]
    Feed(#[from] Refused),
}

/// The error of a pair of which one database could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the {side} service's database cannot be read")]
pub struct PairDumpError {
    /// The service of the database.
    pub side: Side,
    /// The reason.
    pub source: DumpError,
}

/// Reads both services' databases, each at one moment. An unreadable row or entry is listed as such; the others are
/// read.
///
/// Inventory's clock is read first and its database last. Every inventory entry that the order service refers to is
/// then in inventory's journal, and no hold counts as ended that ended after the orders were read.
///
/// # Errors
/// A database cannot be read.
pub async fn dump_pair(
    order: &mut PgConnection,
    inventory: &mut PgConnection,
) -> Result<PairDump, PairDumpError> {
    let at = |side: Side| move |source: DumpError| PairDumpError { side, source };
    let now = clock(inventory).await.map_err(|error| at(Side::Inventory)(error.into()))?;
    let of_order = dump(order, Side::Order).await.map_err(at(Side::Order))?;
    let of_inventory = dump(inventory, Side::Inventory).await.map_err(at(Side::Inventory))?;
    let table = |service: Side, dump: &Dump| JournalTable {
        service,
        rows: dump.journal_rows.unsigned_abs(),
        given: dump.journal.len() as u64,
        hidden: dump.hidden.clone(),
        miscopied: dump.miscopied.clone(),
    };
    let journals = vec![table(Side::Order, &of_order), table(Side::Inventory, &of_inventory)];
    let observed = Observed {
        one_snapshot: true,
        now: Some(now),
        tables: Some(Tables {
            orders: of_order.tables.orders,
            keys: [of_order.tables.keys, of_inventory.tables.keys].concat(),
            reservations: of_inventory.tables.reservations,
            items: of_inventory.tables.items,
        }),
        unread: [of_order.unread, of_inventory.unread].concat(),
        journals,
        sessions: [of_order.sessions, of_inventory.sessions].concat(),
        ..Observed::default()
    };
    let order = of_order.journal.into_iter().map(|row| (Side::Order, row));
    let inventory = of_inventory.journal.into_iter().map(|row| (Side::Inventory, row));
    Ok(PairDump { entries: order.chain(inventory).collect(), observed })
}

/// Reads one service's tables, journal and sessions, in a read-only transaction that sees one moment.
///
/// # Errors
/// The database cannot be read.
pub async fn dump(connection: &mut PgConnection, side: Side) -> Result<Dump, DumpError> {
    sqlx::raw_sql("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *connection)
        .await?;
    let mut rows = Rows { side, unread: Vec::new() };
    let mut tables = Tables::default();
    match side {
        Side::Order => {
            let orders: Vec<OrderColumns> = rows.read(connection, "orders", Named::Id, ORDERS).await?;
            tables.orders = orders.into_iter().map(|row| row.row(&mut rows)).collect();
        }
        Side::Inventory => {
            let reservations: Vec<ReservationColumns> =
                rows.read(connection, "reservations", Named::Id, RESERVATIONS).await?;
            tables.reservations = reservations.into_iter().map(|row| row.row(&mut rows)).collect();
            let items: Vec<ItemColumns> = rows.read(connection, "items", Named::Sku, ITEMS).await?;
            tables.items = items.into_iter().map(ItemColumns::row).collect();
        }
    }
    let keys: Vec<KeyColumns> = rows.read(connection, "idempotency", Named::Aggregate, KEYS).await?;
    tables.keys = keys.into_iter().map(|key| key.row(side)).collect();
    let journal = journal(connection, side).await?;
    let journal_rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM journal").fetch_one(&mut *connection).await?;
    let is_whole = usize::try_from(journal_rows).is_ok_and(|rows| rows == journal.len());
    let hidden = if is_whole { Vec::new() } else { hidden(connection, &journal).await? };
    let miscopied = miscopied(connection, &journal).await?;
    let sessions = sessions(connection, side).await?;
    sqlx::raw_sql("COMMIT").execute(connection).await?;
    Ok(Dump { tables, unread: rows.unread, journal, journal_rows, hidden, miscopied, sessions })
}

/// Finds unfinished work of a pair and describes it; `None` when the pair is at rest: every key has its reply, every
/// order is decided, every hold that ended by inventory's clock has been given back, and no session is in a
/// transaction.
///
/// # Errors
/// A database cannot be read.
pub async fn under_way(
    order: &mut PgConnection,
    inventory: &mut PgConnection,
) -> Result<Option<String>, sqlx::Error> {
    const ORDERS: &str = "SELECT 'order ' || id || ' ' || status FROM orders
        WHERE status NOT IN ('reserved', 'rejected', 'confirmed', 'cancelled', 'expired')
           OR (status = 'reserved' AND expires_at < $1)";
    const HOLDS: &str = "SELECT 'reservation ' || id || ' past its expiry' FROM reservations
        WHERE status = 'held' AND expires_at < $1";
    const UNFINISHED: &str =
        "SELECT 'a key of ' || command || ' without a reply' FROM idempotency WHERE completed_at IS NULL";
    const SESSIONS: &str = "SELECT 'a session in a transaction' FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND (state LIKE 'idle in transaction%' OR state = 'active')";
    let now = clock(inventory).await?;
    for (side, connection, rows) in [(Side::Order, order, ORDERS), (Side::Inventory, inventory, HOLDS)] {
        let mut found: Vec<String> = sqlx::query_scalar(rows).bind(now).fetch_all(&mut *connection).await?;
        for query in [UNFINISHED, SESSIONS] {
            if found.is_empty() {
                found = sqlx::query_scalar(query).fetch_all(&mut *connection).await?;
            }
        }
        if let Some(first) = found.first() {
            return Ok(Some(format!("{side}: {first}, one of {}", found.len())));
        }
    }
    Ok(None)
}

/// The database's clock.
async fn clock(connection: &mut PgConnection) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(connection).await
}

/// A time that the database can hold and this program cannot, such as `infinity`, is read as NULL.
const ORDERS: &str = "SELECT id, principal, status, version, encode(head_hash, 'hex') AS head_hash, lines::text AS lines,
        reservation_id, CASE WHEN expires_at BETWEEN '0001-01-01' AND '9999-12-31' THEN expires_at END AS expires_at
    FROM orders";
const RESERVATIONS: &str = "SELECT id, order_id, status, version, encode(head_hash, 'hex') AS head_hash,
        lines::text AS lines FROM reservations";
const ITEMS: &str = "SELECT sku, on_hand, held, version, encode(head_hash, 'hex') AS head_hash FROM items";
const KEYS: &str = "SELECT principal, encode(key_hash, 'hex') AS key_hash, aggregate_id, status, body, entry_id FROM idempotency";

/// The column by which a table's row names its aggregate.
#[derive(Debug, Clone, Copy)]
enum Named {
    Id,
    Aggregate,
    Sku,
}

/// Reader of table rows. It collects the rows that it cannot read.
struct Rows {
    side: Side,
    unread: Vec<UnreadRow>,
}

impl Rows {
    /// Reads each row by itself, so that a row with an unreadable value does not stop the others.
    async fn read<T: for<'r> FromRow<'r, PgRow>>(
        &mut self,
        connection: &mut PgConnection,
        table: &'static str,
        named: Named,
        query: &'static str,
    ) -> Result<Vec<T>, sqlx::Error> {
        let rows = sqlx::query(query).fetch_all(connection).await?;
        let mut read = Vec::with_capacity(rows.len());
        for row in &rows {
            match T::from_row(row) {
                Ok(row) => read.push(row),
                Err(error) => self.unread(table, named.aggregate(row), error.to_string()),
            }
        }
        Ok(read)
    }

    fn unread(&mut self, table: &'static str, aggregate: Option<Uuid>, what: String) {
        self.unread.push(UnreadRow { service: self.side, table: table.to_owned(), aggregate, what });
    }

    fn lines(&mut self, table: &'static str, id: Uuid, json: &str) -> Option<Vec<Line>> {
        let lines = serde_json::from_str(json);
        lines.map_err(|error| self.unread(table, Some(id), format!("lines: {error}"))).ok()
    }
}

impl Named {
    fn aggregate(self, row: &PgRow) -> Option<Uuid> {
        match self {
            Self::Id => row.try_get("id").ok(),
            Self::Aggregate => row.try_get("aggregate_id").ok(),
            Self::Sku => {
                let sku: &str = row.try_get("sku").ok()?;
                Some(Uuid::new_v5(&ITEM_NAMESPACE, sku.as_bytes()))
            }
        }
    }
}

async fn journal(connection: &mut PgConnection, side: Side) -> Result<Vec<JournalRow>, DumpError> {
    let (mut journal, mut cursor) = (Vec::new(), Cursor::start());
    loop {
        let Page { items, next, more, .. } = read(&mut *connection, side.as_str(), cursor, PAGE).await??;
        journal.extend(items.iter().map(JournalRow::of));
        match next.filter(|_| more) {
            Some(next) => cursor = next.parse()?,
            None => break,
        }
    }
    locate(connection, &mut journal).await?;
    Ok(journal)
}

/// Names the aggregates of unreadable entries, by the columns beside their bodies.
async fn locate(connection: &mut PgConnection, journal: &mut [JournalRow]) -> Result<(), sqlx::Error> {
    let mut unreadable: HashMap<i64, &mut Unreadable> = journal
        .iter_mut()
        .filter_map(|row| match row {
            JournalRow::Entry(_) => None,
            JournalRow::Unreadable(row) => Some((row.seq, &mut **row)),
        })
        .collect();
    if unreadable.is_empty() {
        return Ok(());
    }
    let seqs: Vec<i64> = unreadable.keys().copied().collect();
    let known: Vec<(i64, Uuid, Uuid, String, i64)> = sqlx::query_as(
        "SELECT seq, id, aggregate_id, aggregate_kind, version FROM journal WHERE seq = ANY($1)",
    )
    .bind(seqs)
    .fetch_all(connection)
    .await?;
    for (seq, id, aggregate, kind, version) in known {
        if let Some(row) = unreadable.get_mut(&seq) {
            (row.id, row.aggregate, row.kind, row.version) =
                (Some(id), Some(aggregate), Some(kind), Some(version));
        }
    }
    Ok(())
}

/// Finds the first 10 rows of the journal's table that the feed did not give.
async fn hidden(connection: &mut PgConnection, given: &[JournalRow]) -> Result<Vec<HiddenRow>, sqlx::Error> {
    let given: Vec<i64> = given.iter().map(JournalRow::seq).collect();
    let rows: Vec<(i64, Uuid, i64)> = sqlx::query_as(
        "SELECT seq, aggregate_id, version FROM journal j
         WHERE NOT EXISTS (SELECT FROM unnest($1::bigint[]) AS given (seq) WHERE given.seq = j.seq)
         ORDER BY seq LIMIT 10",
    )
    .bind(given)
    .fetch_all(connection)
    .await?;
    let row = |(seq, aggregate, version)| HiddenRow { seq, aggregate, version };
    Ok(rows.into_iter().map(row).collect())
}

/// The columns of an entry that are copies of members of its body.
struct Copies {
    seq: i64,
    id: Uuid,
    aggregate_kind: String,
    aggregate_id: Uuid,
    version: i64,
    from_state: String,
    to_state: String,
    correlation_id: String,
    trace_id: Option<String>,
    key_hash: Option<String>,
}

journal::from_row!(Copies {
    seq,
    id,
    aggregate_kind,
    aggregate_id,
    version,
    from_state,
    to_state,
    correlation_id,
    trace_id,
    key_hash
});

impl Copies {
    /// The columns that differ from `entry`.
    fn faults(&self, entry: &Entry<'_>) -> Vec<String> {
        let pairs = [
            ("id", self.id == entry.id),
            ("aggregate_kind", *self.aggregate_kind == *entry.aggregate_kind),
            ("aggregate_id", self.aggregate_id == entry.aggregate_id),
            ("version", self.version == entry.version),
            ("from_state", *self.from_state == *entry.from),
            ("to_state", *self.to_state == *entry.to),
            ("correlation_id", *self.correlation_id == *entry.correlation_id),
            ("trace_id", self.trace_id.as_deref() == entry.trace_id.as_deref()),
            ("key_hash", self.key_hash.as_deref() == entry.key_hash.as_deref()),
        ];
        pairs.into_iter().filter(|(_, same)| !same).map(|(column, _)| column.to_owned()).collect()
    }
}

/// The entries with a column that differs from its body.
async fn miscopied(
    connection: &mut PgConnection,
    journal: &[JournalRow],
) -> Result<Vec<MiscopiedRow>, sqlx::Error> {
    let entries: HashMap<i64, &Recorded> = journal
        .iter()
        .filter_map(|row| match row {
            JournalRow::Entry(recorded) => Some((recorded.seq, recorded)),
            JournalRow::Unreadable(_) => None,
        })
        .collect();
    let rows = sqlx::query_as::<_, Copies>(
        "SELECT seq, id, aggregate_kind, aggregate_id, version, from_state, to_state, correlation_id, trace_id,
             encode(key_hash, 'hex') AS key_hash FROM journal",
    )
    .fetch_all(connection)
    .await?;
    let mut miscopied = Vec::new();
    for row in rows {
        let Some(Recorded { entry, .. }) = entries.get(&row.seq) else { continue };
        let columns = row.faults(entry);
        if !columns.is_empty() {
            let (aggregate, version) = (entry.aggregate_id, entry.version);
            miscopied.push(MiscopiedRow { seq: row.seq, aggregate, version, columns });
        }
    }
    Ok(miscopied)
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

struct KeyColumns {
    principal: String,
    key_hash: String,
    aggregate_id: Uuid,
    status: Option<i16>,
    body: Option<Vec<u8>>,
    entry_id: Option<Uuid>,
}

journal::from_row!(KeyColumns { principal, key_hash, aggregate_id, status, body, entry_id });

impl KeyColumns {
    fn row(self, service: Side) -> KeyRow {
        let status = self.status.and_then(|status| u16::try_from(status).ok());
        let told = status.zip(self.body).map(|(status, body)| ClientReply::read(service, status, &body));
        let reply =
            told.as_ref().map(|told| StoredReply { status: told.status, body_hash: told.body_hash.clone() });
        KeyRow {
            service,
            principal: self.principal,
            key_hash: self.key_hash,
            aggregate_id: Some(self.aggregate_id),
            reply,
            told,
            entry_id: self.entry_id,
        }
    }
}

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

journal::from_row!(OrderColumns {
    id,
    principal,
    status,
    version,
    head_hash,
    lines,
    reservation_id,
    expires_at
});

impl OrderColumns {
    fn row(self, rows: &mut Rows) -> OrderRow {
        OrderRow {
            lines: rows.lines("orders", self.id, &self.lines),
            id: self.id,
            principal: self.principal,
            status: self.status,
            version: self.version,
            head_hash: self.head_hash,
            reservation_id: self.reservation_id,
            expires_at: self.expires_at,
        }
    }
}

struct ReservationColumns {
    id: Uuid,
    order_id: Option<Uuid>,
    status: String,
    version: i64,
    head_hash: String,
    lines: String,
}

journal::from_row!(ReservationColumns { id, order_id, status, version, head_hash, lines });

impl ReservationColumns {
    fn row(self, rows: &mut Rows) -> ReservationRow {
        ReservationRow {
            lines: rows.lines("reservations", self.id, &self.lines),
            id: self.id,
            order_id: self.order_id,
            status: self.status,
            version: self.version,
            head_hash: self.head_hash,
        }
    }
}

struct ItemColumns {
    sku: String,
    on_hand: i64,
    held: i64,
    version: i64,
    head_hash: String,
}

journal::from_row!(ItemColumns { sku, on_hand, held, version, head_hash });

impl ItemColumns {
    fn row(self) -> ItemRow {
        let Self { sku, on_hand, held, version, head_hash } = self;
        ItemRow { sku, on_hand, held, version, head_hash }
    }
}
