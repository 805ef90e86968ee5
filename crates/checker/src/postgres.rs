//! Reader of a service's database: its tables and its journal at one moment.
//!
//! A row can then be compared exactly with its journal, even while the service is running. Any role that can read the
//! tables will do, the services' own roles included.

mod journal;
mod tables;

use sqlx::PgConnection;
use time::OffsetDateTime;

use ::journal::feed::{InvalidCursor, Refused};

use crate::{
    Checker, Contract, HiddenRow, JournalRow, JournalTable, MiscopiedRow, Observed, Recorded, Report,
    Session, Side, Tables, UnreadRow,
};

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
    let (tables, unread) = tables::read(connection, side).await?;
    let journal = journal::read(connection, side).await?;
    let journal_rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM journal").fetch_one(&mut *connection).await?;
    let is_whole = usize::try_from(journal_rows).is_ok_and(|rows| rows == journal.len());
    let hidden = if is_whole { Vec::new() } else { journal::hidden(connection, &journal).await? };
    let miscopied = journal::miscopied(connection, &journal).await?;
    let sessions = sessions(connection, side).await?;
    sqlx::raw_sql("COMMIT").execute(connection).await?;
    Ok(Dump { tables, unread, journal, journal_rows, hidden, miscopied, sessions })
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
