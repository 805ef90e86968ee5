//! State transitions, idempotency keys and stored replies, written in one database transaction, each with the
//! reason for it.
//!
//! A service decides with a pure [`Rule`], seals the decision into an [`Entry`] that is chained to the
//! aggregate's previous one, and appends it in the transaction that makes the change. Because the entry holds
//! everything the rule read, anyone can execute the decision again later and must reach the same state.
//!
//! | module | holds |
//! |---|---|
//! | [`rule`] | decisions as pure functions of recorded inputs |
//! | [`mod@entry`] | the entry, its canonical bytes, the hash chain |
//! | [`mod@append`] | the statement that writes entries, settles the keys they answer, and may write the rows they explain |
//! | [`batch`] | writes that come at the same time, in one transaction |
//! | [`canonical`] | canonical JSON |
//! | [`idempotency`] | claims and stored replies |
//! | [`feed`] | reading in commit order without losing rows |
//! | [`database`] | transactions that cannot be half-cancelled, with a bound on every wait |
//! | [`column_time`] | times as columns hold them |
//! | [`clock`] | wall-clock time and the hybrid logical clock, in their one home |
//! | [`cluster`] | the PostgreSQL cluster that the journal lives in, and the mark of a restore |
//! | [`meters`] | metrics of entries and of the database |
//! | [`migrations`] | the schema, and what a release does beside a newer one |

pub mod append;
pub mod batch;
pub mod canonical;
pub mod clock;
pub mod cluster;
pub mod column_time;
pub mod database;
pub mod entry;
pub mod feed;
pub mod idempotency;
pub mod meters;
pub mod migrations;
mod row;
pub mod rule;

pub use append::{Keys, append};
pub use batch::Batch;
pub use clock::{HybridClock, HybridTime};
pub use column_time::time_at;
pub use database::{Database, DatabaseError, Step};
pub use entry::{Cause, Draft, Entry, Head, Journal, Sealed};
pub use idempotency::{Claim, KeyHash, KeyRow, StoredReply};
pub use rule::{Alternative, Decided, Rule, State, Verdict};

/// Names an item's aggregate: its id is the UUIDv5 of its SKU in this namespace.
pub const ITEM_NAMESPACE: uuid::Uuid = uuid::uuid!("6d2b4a0e-3f1c-5c58-9d7a-0b7d4c1f9a10");
