//! All SQL of the inventory service. Each change of state is one function that writes the rows, the journal entry and the
//! completed key together, in the caller's transaction.
//!
//! All transactions take their locks in the same order, so they cannot deadlock: the reservation's row, then the items by
//! SKU, then (by inserting it) the idempotency key.

pub mod holders;
pub mod items;
pub mod keys;
pub mod reservations;
pub mod status;

use journal::entry::EntryHash;
use journal::{HybridTime, Sealed};

/// Migrations of the inventory service, which follow the journal's.
pub const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1001, "inventory", include_str!("../../../../migrations/inventory/1001_inventory.sql")),
    (1002, "entries", include_str!("../../../../migrations/inventory/1002_entries.sql")),
];

/// Every statement, by name, for the test that prepares each of them in a database.
pub fn statements() -> Vec<(&'static str, &'static str)> {
    [
        &holders::STATEMENTS[..],
        &items::STATEMENTS,
        &keys::STATEMENTS,
        &reservations::STATEMENTS,
        &status::STATEMENTS,
    ]
    .concat()
}

/// The newest entry of an aggregate, as the aggregate's row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHead {
    /// Version of the entry.
    pub version: i64,
    /// Hash of the entry.
    pub hash: EntryHash,
    /// Hybrid time of the entry.
    pub hlc: HybridTime,
    /// Id of the entry.
    pub entry_id: uuid::Uuid,
}

impl StoredHead {
    fn read(version: i64, hash: Vec<u8>, hlc: &str, entry_id: uuid::Uuid) -> Result<Self, sqlx::Error> {
        let hash = hash.try_into().map_err(|_| corrupt("a hash that is not 32 bytes long"))?;
        let hlc = hlc.parse().map_err(|_| corrupt("a malformed hybrid time"))?;
        Ok(Self { version, hash, hlc, entry_id })
    }

    /// The values of an entry that is about to be appended.
    pub fn of(sealed: &Sealed) -> Self {
        Self { version: sealed.version, hash: sealed.hash, hlc: sealed.hlc, entry_id: sealed.id }
    }

    /// The head that the next entry is chained to.
    pub fn head(&self, state: impl journal::State) -> journal::Head {
        journal::Head { state: state.as_str(), version: self.version, hash: self.hash }
    }
}

/// The unique constraints for which transactions race: one commits, the others fail.
const RACES: [&str; 5] =
    ["idempotency_pkey", "reservations_pkey", "items_pkey", "journal_pkey", reservations::ONE_LIVE_PER_ORDER];

/// True if another transaction won a race for a row. The command then starts again and reads the winner's row.
pub fn is_race(error: &sqlx::Error) -> bool {
    RACES.iter().any(|constraint| journal::append::is_taken(error, constraint))
}

/// The error for a row with a value that this code never writes.
fn corrupt(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the database holds {what}").into())
}

/// The error for a guarded write that did not find its row as it was locked. It is a defect, never a race.
fn unguarded(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} changed under its lock").into())
}
