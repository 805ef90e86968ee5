//! Forgetting keys whose retention is over.

use journal::{DatabaseError, Step};

use super::Inventory;

/// Retention of a reply, from its completion. Far beyond any retry, and what clients are told.
pub const RETENTION_DAYS: i32 = 7;

/// Keys deleted in one transaction: a few milliseconds' work.
const BATCH: i64 = 1_000;

impl Inventory {
    /// Deletes keys that were answered more than [`RETENTION_DAYS`] ago; gives how many.
    pub async fn reap_keys(&self) -> Result<u64, DatabaseError> {
        let mut total = 0;
        loop {
            let gone = self
                .database
                .transaction(None, (), |connection, ()| {
                    Box::pin(async move {
                        let gone = journal::idempotency::reap(connection, RETENTION_DAYS, BATCH).await?;
                        Ok(Step::Commit(gone))
                    })
                })
                .await?;
            total += gone;
            if gone < BATCH.unsigned_abs() {
                return Ok(total);
            }
        }
    }
}
