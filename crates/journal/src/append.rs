//! Appending: entries, the keys they settle and, for a service's own statement, the rows they explain, in one statement
//! of the caller's transaction.

use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use sqlx::{Arguments, PgConnection};
use uuid::Uuid;

use idempotency::{Claim, StoredReply};

use crate::entry::Sealed;

/// Idempotency keys that entries settle. An entry settles keys of its own aggregate.
#[derive(Debug, Clone, Copy)]
pub enum Keys<'a> {
    /// No key: the outcome is not final, or the command came without a request.
    Leave,
    /// Claims the keys of commands of several transactions. If a key is taken, its entry is not appended.
    Claim(&'a [&'a Claim]),
    /// Records the keys of commands of one transaction, with their replies.
    Record(&'a [(&'a Claim, &'a StoredReply)]),
    /// Completes every unfinished key of an aggregate, by command. A key whose command is not listed stays
    /// unfinished.
    Complete(&'a [(Uuid, &'static str, &'a StoredReply)]),
}

/// Common table expressions that append entries, in their order and at most one for each aggregate. A statement that also writes
/// the service's own rows then writes row and reason in one round trip.
///
/// | form | keys | writes the entries of | parameters |
/// |---|---|---|---|
/// | `leave for "t"` | [`Keys::Leave`] | the aggregates that are an `id` of `t` | `$1` to `$11` |
/// | `claim` | [`Keys::Claim`] | those whose key was free: the `id`s of `claimed` | `$1` to `$14` |
/// | `record for "t"` | [`Keys::Record`] | the aggregates that are an `id` of `t` | `$1` to `$20` |
/// | `complete for "t"` | [`Keys::Complete`] | the aggregates that are an `id` of `t` | `$1` to `$17` |
///
/// `t` may be any table expression, once for the whole statement. [`query`] binds the parameters; those of the caller
/// come after them.
#[macro_export]
macro_rules! entry {
    // The bodies are by far the largest, so they are taken from their list last and are neither sorted nor joined.
    (leave for $these:literal) => {
        concat!(
            "entry AS (INSERT INTO journal (id, aggregate_kind, aggregate_id, version, from_state, to_state,
                correlation_id, trace_id, key_hash, body, hash)
             SELECT id, kind, aggregate_id, version, before, after, correlation_id, trace_id, key_hash,
                ($10::bytea[])[place::integer], hash
             FROM (SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::text[], $6::text[],
                    $7::text[], $8::text[], $9::bytea[], $11::bytea[])
                    WITH ORDINALITY AS e (id, kind, aggregate_id, version, before, after, correlation_id, trace_id,
                        key_hash, hash, place)
                WHERE e.aggregate_id IN (SELECT id FROM ",
            $these,
            ") ORDER BY place) placed
             RETURNING id, aggregate_id)"
        )
    };
    // In the order of the keys, so that two statements with the same keys do not wait for each other.
    (claim) => {
        concat!(
            "claimed AS (INSERT INTO idempotency (principal, key_hash, fingerprint, command, aggregate_id)
             SELECT * FROM unnest($12::text[], $9::bytea[], $13::bytea[], $14::text[], $3::uuid[]) ORDER BY 2
             ON CONFLICT DO NOTHING RETURNING aggregate_id AS id), ",
            $crate::entry!(leave for "claimed")
        )
    };
    (record for $these:literal) => {
        concat!(
            $crate::entry!(leave for $these),
            ", settled AS (INSERT INTO idempotency (entry_id, aggregate_id, completed_at, principal, key_hash,
                fingerprint, command, status, content_type, location, body)
             SELECT entry.id, aggregate_id, clock_timestamp(), principal, key_hash, fingerprint, command, status,
                content_type, location, body
             FROM unnest($12::uuid[], $13::text[], $14::bytea[], $15::bytea[], $16::text[], $17::smallint[], $18::text[],
                $19::text[], $20::bytea[])
                AS k (aggregate_id, principal, key_hash, fingerprint, command, status, content_type, location, body)
             JOIN entry USING (aggregate_id))"
        )
    };
    (complete for $these:literal) => {
        concat!(
            $crate::entry!(leave for $these),
            ", settled AS (UPDATE idempotency k SET completed_at = clock_timestamp(), entry_id = entry.id,
                status = r.status, content_type = r.content_type, location = r.location, body = r.body
             FROM unnest($12::uuid[], $13::text[], $14::smallint[], $15::text[], $16::text[], $17::bytea[])
                AS r (aggregate_id, command, status, content_type, location, body)
             JOIN entry USING (aggregate_id)
             WHERE k.aggregate_id = r.aggregate_id AND k.command = r.command AND k.completed_at IS NULL)"
        )
    };
}

/// The statement that appends all entries.
macro_rules! all {
    ($entries:expr) => {
        concat!("WITH given AS (SELECT unnest($3::uuid[]) AS id), ", $entries, " SELECT FROM entry")
    };
}

const LEAVE: &str = all!(entry!(leave for "given"));
const CLAIM: &str = concat!("WITH ", entry!(claim), " SELECT FROM entry");
const RECORD: &str = all!(entry!(record for "given"));
const COMPLETE: &str = all!(entry!(complete for "given"));

/// Appends entries, at most one for each aggregate, settles `keys`, and returns the number of appended entries. An entry whose key
/// is taken is not appended; read such a key with [`idempotency::find`] in a new statement, because the snapshot of this one may
/// be older than the commit of the other claim.
///
/// # Errors
/// A unique violation on `journal_pkey` means that another transaction moved an aggregate first, one on
/// `idempotency_pkey` that a key is taken; see [`is_taken`]. The transaction must be rolled back on any error.
pub async fn append(
    connection: &mut PgConnection,
    entries: &[&Sealed],
    keys: Keys<'_>,
) -> Result<u64, sqlx::Error> {
    let statement = match keys {
        Keys::Leave => LEAVE,
        Keys::Claim(_) => CLAIM,
        Keys::Record(_) => RECORD,
        Keys::Complete(_) => COMPLETE,
    };
    Ok(query(statement, entries, keys).execute(connection).await?.rows_affected())
}

/// Bytes to reserve for an entry's other columns, its row and its reply: about as many as they take. A buffer that grows step by
/// step costs as much again as filling it.
const BESIDE_BODY: usize = 1_200;

/// Number of parameters to reserve; no statement has more.
const PARAMETERS: usize = 40;

/// Binds the parameters that [`entry!`] refers to.
pub fn query<'q>(
    statement: &'static str,
    entries: &[&'q Sealed],
    keys: Keys<'q>,
) -> Query<'q, Postgres, PgArguments> {
    let mut arguments = PgArguments::default();
    arguments.reserve(PARAMETERS, entries.iter().map(|s| s.body.len() + BESIDE_BODY).sum());
    let query = sqlx::query_with(statement, arguments)
        .bind(column(entries, |s| s.id))
        .bind(column(entries, |s| s.aggregate_kind))
        .bind(column(entries, |s| s.aggregate_id))
        .bind(column(entries, |s| s.version))
        .bind(column(entries, |s| s.from))
        .bind(column(entries, |s| s.to))
        .bind(column(entries, |s| &*s.correlation_id))
        .bind(column(entries, |s| s.trace_id.as_deref()))
        .bind(column(entries, |s| s.key_hash.as_ref().map(|k| k.as_bytes().as_slice())))
        .bind(column(entries, |s| s.body.as_slice()))
        .bind(column(entries, |s| s.hash.as_slice()));
    match keys {
        Keys::Leave => query,
        Keys::Claim(claims) => query
            .bind(column(claims, |c| &*c.principal))
            .bind(column(claims, |c| c.fingerprint.as_slice()))
            .bind(column(claims, |c| c.command)),
        Keys::Record(keys) => query
            .bind(column(keys, |(c, _)| c.aggregate_id))
            .bind(column(keys, |(c, _)| &*c.principal))
            .bind(column(keys, |(c, _)| c.key_hash.as_bytes().as_slice()))
            .bind(column(keys, |(c, _)| c.fingerprint.as_slice()))
            .bind(column(keys, |(c, _)| c.command))
            .bind(column(keys, |(_, r)| r.stored_status()))
            .bind(column(keys, |(_, r)| &*r.content_type))
            .bind(column(keys, |(_, r)| r.location.as_deref()))
            .bind(column(keys, |(_, r)| r.body.as_slice())),
        Keys::Complete(replies) => query
            .bind(column(replies, |(id, _, _)| *id))
            .bind(column(replies, |(_, command, _)| *command))
            .bind(column(replies, |(_, _, r)| r.stored_status()))
            .bind(column(replies, |(_, _, r)| &*r.content_type))
            .bind(column(replies, |(_, _, r)| r.location.as_deref()))
            .bind(column(replies, |(_, _, r)| r.body.as_slice())),
    }
}

/// Collects one value of each row, for a column of `unnest`.
pub fn column<'q, R, T>(rows: &'q [R], of: impl FnMut(&'q R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

/// Returns whether `error` is the violation of the named unique constraint (`journal_pkey`, `idempotency_pkey`, …).
pub fn is_taken(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().is_some_and(|e| e.is_unique_violation() && e.constraint() == Some(constraint))
}
