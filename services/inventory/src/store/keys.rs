//! Idempotency keys of commands that changed nothing. There is no new entry to record them with.

use journal::{Claim, StoredReply};
use sqlx::PgConnection;
use uuid::Uuid;

const RECORD: &str = "INSERT INTO idempotency (principal, key_hash, fingerprint, command, aggregate_id,
        completed_at, status, content_type, location, entry_id, body)
    VALUES ($1, $2, $3, $4, $5, clock_timestamp(), $6, $7, $8, $9, $10)";

pub(super) const STATEMENTS: [(&str, &str); 1] = [("keys::RECORD", RECORD)];

/// Records a key with its final reply, which the entry `entry_id` had decided before.
pub async fn record(
    connection: &mut PgConnection,
    claim: &Claim,
    reply: &StoredReply,
    entry_id: Uuid,
) -> Result<(), sqlx::Error> {
    let status = i16::try_from(reply.status).expect("an HTTP status is below 1,000");
    sqlx::query(RECORD)
        .bind(&claim.principal)
        .bind(claim.key_hash.as_bytes())
        .bind(claim.fingerprint)
        .bind(claim.command)
        .bind(claim.aggregate_id)
        .bind(status)
        .bind(&reply.content_type)
        .bind(&reply.location)
        .bind(entry_id)
        .bind(&reply.body)
        .execute(connection)
        .await?;
    Ok(())
}
