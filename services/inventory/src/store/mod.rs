//! All state of the inventory service, behind the verbs of [`Store`]. Each verb is one transaction or one read.
//!
//! A command's transaction finds its key, takes its locks, decides by a function of the domain, and writes rows, entry, key
//! and reply together (`commands`).
//!
//! All transactions take their locks in the same order, so they cannot deadlock: the reservation's row, then the items by
//! SKU, then (by inserting it) the idempotency key.

mod commands;
mod expiry;
mod holders;
mod items;
pub mod reservations;
pub mod reserve;

use std::ops::Deref;
use std::sync::Arc;

use chassis::UnreadableRows;
use chassis::clocks::Clocks;
use journal::entry::EntryHash;
use journal::{Batch, Database, Head, HybridTime, Journal, State, StoredReply};

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::domain::{NewReservation, Outcome};
use commands::{CommandRequest, Ended};

pub use commands::{Command, CommandContext, CommandError, CommandResult, Transition};
pub use expiry::{DueCursor, Expired};
pub use holders::{Held, Holder, Share};
pub use reservations::{ChangeReservation, StoredReservation};

/// Migrations of the inventory service, which follow the journal's.
pub const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1001, "inventory", include_str!("../../../../migrations/inventory/1001_inventory.sql")),
    (1002, "entries", include_str!("../../../../migrations/inventory/1002_entries.sql")),
];

/// Every statement, by name, for the test that prepares each of them in a database.
pub fn statements() -> Vec<(&'static str, &'static str)> {
    [
        &expiry::STATEMENTS[..],
        &holders::STATEMENTS,
        &items::STATEMENTS,
        &reservations::STATEMENTS,
        &reserve::STATEMENTS,
    ]
    .concat()
}

/// Function that makes the reply's bytes from the outcome and the correlation id of the request. The transaction stores the
/// reply with the decision, and the store knows no HTTP.
pub type Render = fn(&Outcome, &str) -> StoredReply;

/// The store of the inventory service. Clones share it.
#[derive(Debug, Clone)]
pub struct Store(Arc<Parts>);

/// The parts of [`Store`].
#[derive(Debug)]
pub struct Parts {
    /// The inventory service's database.
    pub database: Database,
    /// The writer of the inventory service's journal entries.
    pub journal: Journal,
    /// The hybrid clock of this process, which adopts times of the order service and of other replicas.
    clocks: Clocks,
    render: Render,
    /// Reserves that come at the same time share a transaction.
    reserving: Batch<CommandRequest<NewReservation>, Ended>,
    /// Rows that this release cannot read.
    pub unreadable: UnreadableRows,
}

impl Deref for Store {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Store {
    /// A store in `database`. It writes entries by `journal` and makes replies by `render`.
    pub fn new(database: Database, journal: Journal, render: Render) -> Self {
        let reserving = Batch::new(
            database.clone(),
            |request: &CommandRequest<NewReservation>| request.command.skus().count(),
            |connection, requests| Box::pin(reserve::all(connection, requests)),
        );
        let clocks = Clocks::new(&journal, "order");
        let unreadable = UnreadableRows::new(&["reservations"]);
        Self(Arc::new(Parts { database, journal, clocks, render, reserving, unreadable }))
    }

    /// The head that the next entry is chained to. Adopts its time, so that the hybrid clock is after it, also when another
    /// process wrote it.
    fn chain(&self, head: Option<&StoredHead>) -> Option<Head> {
        head.map(|head| {
            self.clocks.adopt_head(head.hlc);
            Head { state: head.state, version: head.version, hash: head.hash }
        })
    }
}

/// The newest entry of an aggregate, as the aggregate's row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHead {
    state: &'static str,
    version: i64,
    hash: EntryHash,
    hlc: HybridTime,
    /// Id of the entry.
    pub entry_id: uuid::Uuid,
}

impl StoredHead {
    fn read(row: &PgRow, state: impl State, version: i64) -> Result<Self, sqlx::Error> {
        let hash = row.try_get::<&[u8], _>("head_hash")?.try_into();
        let hash = hash.map_err(|_| corrupt("a hash that is not 32 bytes long"))?;
        let hlc = row.try_get::<&str, _>("hlc")?.parse();
        let hlc = hlc.map_err(|_| corrupt("a malformed hybrid time"))?;
        Ok(Self { state: state.as_str(), version, hash, hlc, entry_id: row.try_get("entry_id")? })
    }
}

/// The unique constraints for which transactions race: one commits, the others fail.
const RACES: [&str; 5] =
    ["idempotency_pkey", "reservations_pkey", "items_pkey", "journal_pkey", reserve::ONE_LIVE_PER_ORDER];

/// True if another transaction won a race for a row. The command then starts again and reads the winner's row.
fn is_race(error: &sqlx::Error) -> bool {
    RACES.iter().any(|constraint| journal::append::is_taken(error, constraint))
}

/// True if the database refused the values of this one write: SQLSTATE class 22 (data), 23 (constraint), 44 (check
/// option) or P0 (raised by a trigger). Any other refusal, as of a missing table, concerns every write.
fn is_of_one_write(cause: &sqlx::Error) -> bool {
    let code = cause.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["22", "23", "44", "P0"].iter().any(|class| code.starts_with(class)))
}

/// The error for a row with a value that this code never writes.
fn corrupt(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the database holds {what}").into())
}

/// The error for a guarded write that did not find its row as it was locked. It is a defect, never a race.
fn unguarded(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} changed under its lock").into())
}
