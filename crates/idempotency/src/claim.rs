//! Claims of keys, their completion, and the rows in which both are stored.

use std::sync::Arc;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{KeyHash, StoredReply};

/// A key to be claimed, with its request.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Authenticated caller. The same key of another principal is another key.
    pub principal: Arc<str>,
    /// Hash of the key.
    pub key_hash: KeyHash,
    /// Fingerprint of the request: see [`FingerprintHasher`](crate::FingerprintHasher).
    pub fingerprint: [u8; 32],
    /// Name of the command, by which the unfinished keys of one object are told apart.
    pub command: &'static str,
    /// Id of the object that the command changes or creates.
    pub aggregate_id: Uuid,
}

/// A key that is taken.
#[derive(Debug, Clone)]
pub struct KeyRow {
    /// Fingerprint of the request that claimed it.
    pub fingerprint: [u8; 32],
    /// Name of its command.
    pub command: String,
    /// Id of the object that the command changes.
    pub aggregate_id: Uuid,
    /// The reply, once it is final.
    pub reply: Option<StoredReply>,
    /// Id of the record that explains the reply.
    pub entry_id: Option<Uuid>,
}

/// Result of [`claim_or_find`].
#[derive(Debug, Clone)]
pub enum Claimed {
    /// The key was free and is this request's now: carry the command out, then [`complete`] the claim.
    New,
    /// The same request has this reply.
    Replay(StoredReply),
    /// The same request was claimed and has no reply yet: 409.
    InFlight,
    /// The key was used for another request: 422.
    Reused,
}

/// Claims the key in the caller's transaction, or finds the reply of the request that has it.
///
/// While another transaction holds an uncommitted claim of the key, this call waits for its end. In `READ COMMITTED`, the
/// default of PostgreSQL, it then sees the reply.
pub async fn claim_or_find(connection: &mut PgConnection, claimed: &Claim) -> Result<Claimed, sqlx::Error> {
    if claim(connection, claimed).await? {
        return Ok(Claimed::New);
    }
    Ok(match find(connection, &claimed.principal, &claimed.key_hash).await? {
        Some(row) if row.fingerprint != claimed.fingerprint => Claimed::Reused,
        Some(KeyRow { reply: Some(reply), .. }) => Claimed::Replay(reply),
        // A row that is gone was deleted in between. The client may repeat.
        Some(KeyRow { reply: None, .. }) | None => Claimed::InFlight,
    })
}

/// Claims the key. `false` means that it is taken. Read it with [`find`], in a new statement: the snapshot of this one may
/// be older than the commit of the transaction that has the key.
pub async fn claim(connection: &mut PgConnection, claim: &Claim) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO idempotency (principal, key_hash, fingerprint, command, aggregate_id)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(&*claim.principal)
    .bind(claim.key_hash.as_bytes())
    .bind(claim.fingerprint)
    .bind(claim.command)
    .bind(claim.aggregate_id)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Completes a claim with its final reply. A claim that has a reply keeps it.
pub async fn complete(
    connection: &mut PgConnection,
    claim: &Claim,
    reply: &StoredReply,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE idempotency SET completed_at = clock_timestamp(), status = $3, content_type = $4,
             location = $5, body = $6
         WHERE principal = $1 AND key_hash = $2 AND completed_at IS NULL",
    )
    .bind(&*claim.principal)
    .bind(claim.key_hash.as_bytes())
    .bind(reply.stored_status())
    .bind(&*reply.content_type)
    .bind(&reply.location)
    .bind(&reply.body)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records a key together with its final reply, for a command that is decided in one transaction. `entry_id` names the
/// record that explains the reply.
///
/// # Errors
/// A unique violation on `idempotency_pkey` means that the key is taken. The transaction must be rolled back.
pub async fn record(
    connection: &mut PgConnection,
    claim: &Claim,
    reply: &StoredReply,
    entry_id: Option<Uuid>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO idempotency (principal, key_hash, fingerprint, command, aggregate_id,
             completed_at, status, content_type, location, entry_id, body)
         VALUES ($1, $2, $3, $4, $5, clock_timestamp(), $6, $7, $8, $9, $10)",
    )
    .bind(&*claim.principal)
    .bind(claim.key_hash.as_bytes())
    .bind(claim.fingerprint)
    .bind(claim.command)
    .bind(claim.aggregate_id)
    .bind(reply.stored_status())
    .bind(&*reply.content_type)
    .bind(&reply.location)
    .bind(entry_id)
    .bind(&reply.body)
    .execute(connection)
    .await?;
    Ok(())
}

type Row =
    (Vec<u8>, String, Uuid, Option<i16>, Option<String>, Option<String>, Option<Uuid>, Option<Vec<u8>>);

/// Reads a key.
pub async fn find(
    connection: &mut PgConnection,
    principal: &str,
    key_hash: &KeyHash,
) -> Result<Option<KeyRow>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT fingerprint, command, aggregate_id, status, content_type, location, entry_id, body
         FROM idempotency WHERE principal = $1 AND key_hash = $2",
    )
    .bind(principal)
    .bind(key_hash.as_bytes())
    .fetch_optional(connection)
    .await?;
    row.map(read).transpose()
}

fn read(row: Row) -> Result<KeyRow, sqlx::Error> {
    let (fingerprint, command, aggregate_id, status, content_type, location, entry_id, body) = row;
    let fingerprint =
        fingerprint.try_into().map_err(|_| corrupt("a fingerprint that is not 32 bytes long"))?;
    let reply = match (status, body) {
        (Some(status), Some(body)) => Some(StoredReply {
            status: u16::try_from(status).map_err(|_| corrupt("a negative status"))?,
            content_type: content_type.unwrap_or_default().into(),
            location,
            body,
        }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(corrupt("half a reply")),
    };
    Ok(KeyRow { fingerprint, command, aggregate_id, reply, entry_id })
}

fn corrupt(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the idempotency table holds {what}").into())
}
