//! Deletion of idempotency keys whose aggregate is at rest.

use idempotency::{Retention, delete_expired_batch, find_expired};

use crate::database::{Database, DatabaseError};

/// Finds expired keys whose aggregate is at rest, that is, no transition leads from its state to another. The parameters
/// are those of [`find_expired!`].
pub const FIND_EXPIRED: &str = find_expired!(
    "NOT EXISTS (
        SELECT FROM (SELECT aggregate_kind, to_state FROM journal WHERE aggregate_id = k.aggregate_id
                     ORDER BY version DESC LIMIT 1) newest
        JOIN transitions t ON t.aggregate_kind = newest.aggregate_kind AND t.from_state = newest.to_state
            AND t.to_state <> t.from_state)"
);

/// Deletes the keys whose reply is older than [`RETENTION_DAYS`](idempotency::RETENTION_DAYS) and whose aggregate is at
/// rest, and returns their number. A key that the database refuses to delete stays, and is logged.
pub async fn delete_expired(database: &Database) -> Result<u64, DatabaseError> {
    let retention = Retention { find: FIND_EXPIRED, ..Retention::default() };
    let (mut total, mut after) = (0, None);
    loop {
        // Each statement is its own transaction. A deletion may be repeated, as a read may.
        let batch = database.read(None, &after, |connection, after| {
            Box::pin(delete_expired_batch(connection, retention, after.as_ref()))
        });
        let (deletion, next) = batch.await?;
        total += deletion.deleted;
        if let Some((_, error)) = deletion.refused.first() {
            let keys = deletion.refused.len();
            tracing::warn!(keys, %error, "database refused to delete expired idempotency keys; they are kept");
        }
        if next.is_none() {
            return Ok(total);
        }
        after = next;
    }
}
