//! Appending: the entry, the keys it settles and, for a service's own statement, the row it explains, in one statement
//! of the caller's transaction.

use sqlx::PgConnection;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;

use crate::entry::Sealed;
use crate::idempotency::{Claim, StoredReply};

/// Which idempotency keys an entry settles.
#[derive(Debug, Clone, Copy)]
pub enum Keys<'a> {
    /// None: the outcome is not final, or no request asked.
    Leave,
    /// Claims the key of a command of several transactions. Where it is taken, the entry is not appended either.
    Claim(&'a Claim),
    /// Records the key of a command that had only this transaction, with its reply.
    Record(&'a Claim, &'a StoredReply),
    /// Completes every unfinished key of this aggregate, by command. A key whose command is not listed stays
    /// unfinished.
    Complete(&'a [(&'static str, StoredReply)]),
}

/// The common table expressions that append an entry, for a statement that writes a service's own row as well: the row
/// and its reason are then one round trip, and neither is there without the other.
///
/// | form | for | writes if | parameters |
/// |---|---|---|---|
/// | `leave when "t"` | [`Keys::Leave`] | `t` has a row | `$1` to `$11` |
/// | `claim` | [`Keys::Claim`] | the key was free; then `claimed` has a row | `$1` to `$14` |
/// | `record when "t"` | [`Keys::Record`] | `t` has a row | `$1` to `$20` |
/// | `complete when "t"` | [`Keys::Complete`] | `t` has a row | `$1` to `$16` |
///
/// `t` may be any expression of one row or none, once for the whole statement. [`bind`] binds the parameters; those of
/// the caller come after them.
#[macro_export]
macro_rules! entry {
    (leave when $when:literal) => {
        concat!(
            "entry AS (INSERT INTO journal (id, aggregate_kind, aggregate_id, version, from_state, to_state,
                correlation_id, trace_id, key_hash, body, hash)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 FROM ",
            $when,
            ")"
        )
    };
    (claim) => {
        concat!(
            "claimed AS (INSERT INTO idempotency (principal, key_hash, fingerprint, command, aggregate_id)
             VALUES ($12, $9, $13, $14, $3) ON CONFLICT DO NOTHING RETURNING 1), ",
            $crate::entry!(leave when "claimed")
        )
    };
    (record when $when:literal) => {
        concat!(
            $crate::entry!(leave when $when),
            ", settled AS (INSERT INTO idempotency (entry_id, principal, key_hash, fingerprint, command, aggregate_id,
                completed_at, status, content_type, location, body)
             SELECT $1, $12, $13, $14, $15, $16, clock_timestamp(), $17, $18, $19, $20 FROM ",
            $when,
            ")"
        )
    };
    (complete when $when:literal) => {
        concat!(
            $crate::entry!(leave when $when),
            ", settled AS (UPDATE idempotency k SET completed_at = clock_timestamp(), entry_id = $1, status = r.status,
                content_type = r.content_type, location = r.location, body = r.body
             FROM unnest($12::text[], $13::smallint[], $14::text[], $15::text[], $16::bytea[])
                AS r (command, status, content_type, location, body), ",
            $when,
            " WHERE k.aggregate_id = $3 AND k.command = r.command AND k.completed_at IS NULL)"
        )
    };
}

const LEAVE: &str = concat!("WITH always AS (SELECT), ", entry!(leave when "always"), " SELECT 1");
const CLAIM: &str = concat!("WITH ", entry!(claim), " SELECT FROM claimed");
const RECORD: &str = concat!("WITH always AS (SELECT), ", entry!(record when "always"), " SELECT 1");
const COMPLETE: &str = concat!("WITH always AS (SELECT), ", entry!(complete when "always"), " SELECT 1");

/// Appends `sealed` and settles `keys`. `false`: the key to be claimed is taken, and nothing was written; read it
/// with [`crate::idempotency::look`], in a new statement, since this one's snapshot may be older than the winner's
/// commit.
///
/// # Errors
/// A unique violation on `journal_pkey` means that another transaction moved the aggregate first, one on
/// `idempotency_pkey` that the key is taken; see [`is_taken`]. The transaction must be rolled back on any error.
pub async fn append(
    connection: &mut PgConnection,
    sealed: &Sealed,
    keys: Keys<'_>,
) -> Result<bool, sqlx::Error> {
    let statement = match keys {
        Keys::Leave => LEAVE,
        Keys::Claim(_) => CLAIM,
        Keys::Record(..) => RECORD,
        Keys::Complete(_) => COMPLETE,
    };
    let done = bind(sqlx::query(statement), sealed, keys).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}

/// Binds what [`entry!`] refers to, in its order.
pub fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    sealed: &'q Sealed,
    keys: Keys<'q>,
) -> Query<'q, Postgres, PgArguments> {
    let entry = &sealed.entry;
    let query = query
        .bind(entry.id)
        .bind(&entry.aggregate_kind)
        .bind(entry.aggregate_id)
        .bind(entry.version)
        .bind(&entry.from)
        .bind(&entry.to)
        .bind(&entry.correlation_id)
        .bind(&entry.trace_id)
        .bind(sealed.key_hash.as_ref().map(|k| k.as_bytes().as_slice()))
        .bind(&sealed.body)
        .bind(sealed.hash);
    match keys {
        Keys::Leave => query,
        Keys::Claim(claim) => query.bind(&claim.principal).bind(claim.fingerprint).bind(claim.command),
        Keys::Record(claim, reply) => query
            .bind(&claim.principal)
            .bind(claim.key_hash.as_bytes().as_slice())
            .bind(claim.fingerprint)
            .bind(claim.command)
            .bind(claim.aggregate_id)
            .bind(reply.stored_status())
            .bind(&reply.content_type)
            .bind(&reply.location)
            .bind(&reply.body),
        Keys::Complete(replies) => query
            .bind(replies.iter().map(|(command, _)| *command).collect::<Vec<_>>())
            .bind(replies.iter().map(|(_, r)| r.stored_status()).collect::<Vec<_>>())
            .bind(replies.iter().map(|(_, r)| r.content_type.as_str()).collect::<Vec<_>>())
            .bind(replies.iter().map(|(_, r)| r.location.as_deref()).collect::<Vec<_>>())
            .bind(replies.iter().map(|(_, r)| r.body.as_slice()).collect::<Vec<_>>()),
    }
}

/// Whether `error` is the violation of the named unique constraint (`journal_pkey`, `idempotency_pkey`, …).
pub fn is_taken(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().is_some_and(|e| e.is_unique_violation() && e.constraint() == Some(constraint))
}
