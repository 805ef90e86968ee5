//! Idempotency keys: claimed once, answered once, replayed byte for byte.
//!
//! A command of one transaction records key, effect and reply together; of two with one key, at once or one after the
//! other, the table's primary key lets one through, and the other rolls back and reads its reply. A command of several
//! transactions claims its key in the first. The request or the reconciler, which brings the command to its end,
//! completes the claim.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::{Database, DatabaseError, Step};

/// SHA-256 of an idempotency key. The key is the caller's; it is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Hashes a key.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// The hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({})", crate::entry::hex(&self.0[..4]))
    }
}

/// A final reply, as it is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReply {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Cow<'static, str>,
    /// `Location`, if any.
    pub location: Option<String>,
    /// The body's exact bytes.
    pub body: Vec<u8>,
}

impl StoredReply {
    pub(crate) fn stored_status(&self) -> i16 {
        i16::try_from(self.status).expect("an HTTP status is below 1,000")
    }
}

/// A key to be claimed, and what it stands for.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Whose key; another principal's is invisible.
    pub principal: Arc<str>,
    /// The key's hash.
    pub key_hash: KeyHash,
    /// The request's fingerprint.
    pub fingerprint: [u8; 32],
    /// The command, for the completion of several keys of one aggregate.
    pub command: &'static str,
    /// What the command is about.
    pub aggregate_id: Uuid,
}

/// What is known about a key.
#[derive(Debug, Clone)]
pub struct KeyRow {
    /// The fingerprint of the request that claimed it.
    pub fingerprint: [u8; 32],
    /// Its command.
    pub command: String,
    /// What it is about.
    pub aggregate_id: Uuid,
    /// The final reply, once there is one.
    pub reply: Option<StoredReply>,
    /// The entry that settled it.
    pub entry_id: Option<Uuid>,
}

/// Claims the key for a command of several transactions. `false`: it is taken; read it with [`look`], in a
/// new statement, since this one's snapshot may be older than the winner's commit.
pub async fn claim(connection: &mut PgConnection, claim: &Claim) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO idempotency (principal, key_hash, fingerprint, command, aggregate_id)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(&*claim.principal)
    .bind(claim.key_hash.0)
    .bind(claim.fingerprint)
    .bind(claim.command)
    .bind(claim.aggregate_id)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Completes a claim that needed no transition, with `reply`.
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
    .bind(claim.key_hash.0)
    .bind(reply.stored_status())
    .bind(&*reply.content_type)
    .bind(&reply.location)
    .bind(&reply.body)
    .execute(connection)
    .await?;
    Ok(())
}

type Row =
    (Vec<u8>, String, Uuid, Option<i16>, Option<String>, Option<String>, Option<Uuid>, Option<Vec<u8>>);

/// Reads what is known about a key.
pub async fn look(
    connection: &mut PgConnection,
    principal: &str,
    key_hash: &KeyHash,
) -> Result<Option<KeyRow>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT fingerprint, command, aggregate_id, status, content_type, location, entry_id, body
         FROM idempotency WHERE principal = $1 AND key_hash = $2",
    )
    .bind(principal)
    .bind(key_hash.0)
    .fetch_optional(connection)
    .await?;
    row.map(|(fingerprint, command, aggregate_id, status, content_type, location, entry_id, body)| {
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
            _ => return Err(corrupt("half a reply")),
        };
        Ok(KeyRow { fingerprint, command, aggregate_id, reply, entry_id })
    })
    .transpose()
}

fn corrupt(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the idempotency table holds {what}").into())
}

/// How many days a reply is kept after it was given, at least. Far beyond any retry, and what clients are told.
pub const RETENTION_DAYS: i32 = 7;

/// Keys deleted in one transaction, so that none is long.
const BATCH: i64 = 1_000;

/// $1 days, $2 at most. Unfinished keys have no `completed_at`. An aggregate is at rest when no move leads from its
/// state to another. Rows are deleted by their places in the table, so that no plan reads it whole to find them again.
pub const REAP: &str = "DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency k
    WHERE completed_at < now() - make_interval(days => $1) AND NOT EXISTS (
        SELECT FROM (SELECT aggregate_kind, to_state FROM journal WHERE aggregate_id = k.aggregate_id
                     ORDER BY version DESC LIMIT 1) newest
        JOIN transitions t ON t.aggregate_kind = newest.aggregate_kind AND t.from_state = newest.to_state
            AND t.to_state <> t.from_state)
    ORDER BY completed_at LIMIT $2))";

/// Deletes the keys whose reply was given more than [`RETENTION_DAYS`] ago, and gives how many. The keys of what is not
/// at rest yet are kept, unfinished ones among them.
pub async fn reap(database: &Database) -> Result<u64, DatabaseError> {
    let mut total = 0;
    loop {
        let batch = database.transaction(None, (), |connection, ()| {
            Box::pin(async move {
                let done = sqlx::query(REAP).bind(RETENTION_DAYS).bind(BATCH).execute(connection).await?;
                Ok(Step::Commit(done.rows_affected()))
            })
        });
        let gone = batch.await?;
        total += gone;
        if gone < BATCH.unsigned_abs() {
            return Ok(total);
        }
    }
}
