//! State transitions, idempotency keys and stored replies, written in one database transaction, each with the
//! reason for it.
//!
//! A service decides with a pure [`Rule`], seals the decision into an [`Entry`] that is chained to the previous entry of its
//! aggregate, and appends it in the transaction that makes the change. The entry has all inputs of the rule, so the decision
//! can be executed again later and must reach the same state.
//!
//! | module | holds |
//! |---|---|
//! | [`rule`] | decisions as pure functions of recorded inputs |
//! | [`mod@entry`] | the entry, its bytes, the hash chain |
//! | [`mod@append`] | the statement that writes entries, settles their keys, and may write the rows that they explain |
//! | [`batch`] | concurrent writes in one transaction |
//! | [`idempotency`] | the crate of claims and stored replies |
//! | [`retention`] | deletion of keys that are no longer needed |
//! | [`feed`] | the entries in commit order |
//! | [`database`] | transactions and reads with a bound on every wait |
//! | [`column_time`] | times of columns, for every value of a column |
//! | [`clock`] | the wall clock and the hybrid logical clock |
//! | [`cluster`] | the PostgreSQL cluster that the journal lives in, and the mark of a restore |
//! | [`meters`] | metrics of entries and of the database |
//! | [`migrations`] | the schema, and the treatment of a newer one |

pub mod append;
pub mod batch;
pub mod clock;
pub mod cluster;
pub mod column_time;
pub mod database;
pub mod entry;
pub mod feed;
mod hex;
pub mod meters;
pub mod migrations;
pub mod retention;
mod row;
pub mod rule;

pub use append::{Keys, append};
pub use batch::Batch;
pub use clock::{HybridClock, HybridTime};
pub use column_time::time_at;
pub use database::TxEnd as Step;
pub use database::{Database, DatabaseError, TxEnd};
pub use entry::{Cause, Draft, Entry, Head, Journal, Sealed};
pub use hex::hex;
pub use idempotency;
pub use idempotency::{Claim, KeyHash, KeyRow, StoredReply};
pub use rule::{Alternative, Decided, Rule, State, Verdict};

/// Namespace of the aggregate ids of items: UUIDv5 of the SKU.
pub const ITEM_NAMESPACE: uuid::Uuid = uuid::uuid!("6d2b4a0e-3f1c-5c58-9d7a-0b7d4c1f9a10");
