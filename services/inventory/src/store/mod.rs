//! All SQL. Each change of state is one function that writes the rows, the journal entry and the settled key
//! together, in the caller's transaction.
//!
//! Locks are always taken in the same order, so transactions cannot deadlock: the reservation's row, then the
//! items by SKU, then (by inserting) the idempotency key.

pub mod holders;
pub mod items;
pub mod keys;
pub mod reservations;
pub mod status;

use journal::entry::EntryHash;
use journal::{HybridTime, Sealed};

/// The service's own migrations, to follow the journal's.
pub const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1001, "inventory", include_str!("../../../../migrations/inventory/1001_inventory.sql")),
    (1002, "entries", include_str!("../../../../migrations/inventory/1002_entries.sql")),
];

/// Every statement, by name, for the test that has the database prepare each of them.
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

/// What an aggregate's row says of its newest entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// Its version.
    pub version: i64,
    /// Its hash.
    pub hash: EntryHash,
    /// Its hybrid time.
    pub hlc: HybridTime,
    /// Its id.
    pub entry_id: uuid::Uuid,
}

impl Newest {
    fn read(version: i64, hash: Vec<u8>, hlc: &str, entry_id: uuid::Uuid) -> Result<Self, sqlx::Error> {
        let hash = hash.try_into().map_err(|_| corrupt("a hash that is not 32 bytes long"))?;
        let hlc = hlc.parse().map_err(|_| corrupt("a malformed hybrid time"))?;
        Ok(Self { version, hash, hlc, entry_id })
    }

    /// As of an entry that is about to be appended.
    pub fn of(sealed: &Sealed) -> Self {
        Self { version: sealed.version, hash: sealed.hash, hlc: sealed.hlc, entry_id: sealed.id }
    }

    /// For the next entry to be chained to.
    pub fn head(&self, state: impl journal::State) -> journal::Head {
        journal::Head { state: state.as_str(), version: self.version, hash: self.hash }
    }
}

/// The unique constraints at which of several transactions all but one come to a halt.
const RACES: [&str; 5] =
    ["idempotency_pkey", "reservations_pkey", "items_pkey", "journal_pkey", reservations::ONE_LIVE_PER_ORDER];

/// Whether someone else was first: start again and see what they did.
pub fn is_race(error: &sqlx::Error) -> bool {
    RACES.iter().any(|constraint| journal::append::is_taken(error, constraint))
}

/// A row holds what this code never writes.
fn corrupt(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the database holds {what}").into())
}

/// A guarded write that did not find its row as it was locked: a defect, never a race.
fn unguarded(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} changed under its lock").into())
}
