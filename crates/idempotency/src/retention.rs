//! Deletion of keys at the end of their retention.
//!
//! Keys are found in batches and each batch is deleted by one statement. If the database refuses a batch, it is split
//! until the keys that cannot be deleted stand alone. They stay, and all others are deleted.

use sqlx::PgConnection;

use crate::KeyHash;

/// Days for which a reply is kept, counted from the reply. Far longer than any client repeats.
pub const RETENTION_DAYS: i32 = 7;

/// Keys in one statement at most, so that none takes long.
const BATCH: i64 = 1_000;

/// Rule by which keys are deleted. Unfinished keys are never deleted.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Days since the reply: [`RETENTION_DAYS`] by default.
    pub days: i32,
    /// Statement that finds expired keys: [`FIND_EXPIRED`] by default. A service that has to keep some of them passes
    /// its own, with the same parameters and columns.
    pub find: &'static str,
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: RETENTION_DAYS, find: FIND_EXPIRED }
    }
}

/// The statement that finds expired keys `k` for which `$condition` holds, in the order of their completion.
///
/// `$1` days, `$2` to `$4` the key after which the batch begins, `$5` the size of the batch.
#[macro_export]
macro_rules! find_expired {
    ($condition:literal) => {
        concat!(
            "SELECT completed_at::text, key_hash, principal FROM idempotency k
             WHERE completed_at < now() - make_interval(days => $1)
                 AND (completed_at, key_hash, principal) > ($2::text::timestamptz, $3, $4) AND ",
            $condition,
            " ORDER BY completed_at, key_hash, principal LIMIT $5"
        )
    };
}

/// Finds expired keys: see [`find_expired!`](crate::find_expired).
pub const FIND_EXPIRED: &str = find_expired!("true");

/// Deletes keys: `$1` days, `$2` hashes, `$3` principals. A key that was deleted and claimed again since it was found is
/// younger, and stays.
pub const DELETE: &str = "DELETE FROM idempotency
    WHERE (key_hash, principal) IN (SELECT * FROM unnest($2::bytea[], $3::text[]))
        AND completed_at < now() - make_interval(days => $1)";

/// Result of a deletion.
#[derive(Debug, Default)]
pub struct Deletion {
    /// Number of deleted keys.
    pub deleted: u64,
    /// Keys that the database refused to delete, with the reasons.
    pub refused: Vec<(KeyHash, sqlx::Error)>,
}

/// The key at the end of a batch, after which the next one begins.
#[derive(Debug, Clone)]
pub struct Resume {
    completed_at: String,
    key_hash: Vec<u8>,
    principal: String,
}

/// Deletes all expired keys that can be deleted. Call it outside of a transaction, and again from time to time: a key that
/// another transaction holds is refused and deleted by a later call.
///
/// # Errors
/// The database failed, or it refused a whole batch. Keys that were deleted before stay deleted.
pub async fn delete_expired(
    connection: &mut PgConnection,
    retention: Retention,
) -> Result<Deletion, sqlx::Error> {
    let (mut total, mut after) = (Deletion::default(), None);
    loop {
        let (Deletion { deleted, refused }, next) =
            delete_expired_batch(connection, retention, after.as_ref()).await?;
        total.deleted += deleted;
        total.refused.extend(refused);
        let Some(next) = next else { return Ok(total) };
        after = Some(next);
    }
}

/// Deletes one batch of expired keys. `None` as the second value means that no further key is expired.
///
/// # Errors
/// As of [`delete_expired`].
pub async fn delete_expired_batch(
    connection: &mut PgConnection,
    retention: Retention,
    after: Option<&Resume>,
) -> Result<(Deletion, Option<Resume>), sqlx::Error> {
    let found: Vec<(String, Vec<u8>, String)> = sqlx::query_as(retention.find)
        .bind(retention.days)
        .bind(after.map_or("-infinity", |after| &after.completed_at))
        .bind(after.map_or(&[][..], |after| &after.key_hash))
        .bind(after.map_or("", |after| &after.principal))
        .bind(BATCH)
        .fetch_all(&mut *connection)
        .await?;
    let keys: Vec<Resume> = found
        .into_iter()
        .map(|(completed_at, key_hash, principal)| Resume { completed_at, key_hash, principal })
        .collect();
    let deletion = delete(connection, retention.days, &keys).await?;
    let is_full = i64::try_from(keys.len()).is_ok_and(|found| found == BATCH);
    Ok((deletion, keys.into_iter().next_back().filter(|_| is_full)))
}

async fn delete(connection: &mut PgConnection, days: i32, keys: &[Resume]) -> Result<Deletion, sqlx::Error> {
    let mut deletion = Deletion::default();
    let mut parts = vec![keys];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let hashes: Vec<&[u8]> = part.iter().map(|key| &*key.key_hash).collect();
        let principals: Vec<&str> = part.iter().map(|key| &*key.principal).collect();
        let query = sqlx::query(DELETE).bind(days).bind(hashes).bind(principals);
        match query.execute(&mut *connection).await {
            Ok(done) => deletion.deleted += done.rows_affected(),
            Err(error) if !may_be_of_one_key(&error) => return Err(error),
            Err(error) => {
                if let [key] = part {
                    let hash = key.key_hash.as_slice().try_into().map(KeyHash::from_bytes);
                    deletion.refused.push((hash.map_err(|_| not_a_hash())?, error));
                } else {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        // One key of a large batch may be at fault, but not each of them.
        if keys.len() > 1 && deletion.refused.len() == keys.len() {
            return Err(deletion.refused.swap_remove(0).1);
        }
    }
    Ok(deletion)
}

/// Returns whether a part of the batch may succeed: the server answered, and its answer is not about the session, its
/// transaction, its login or its own state.
fn may_be_of_one_key(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| {
        code == "57014" || !["08", "25", "28", "53", "57", "58"].iter().any(|class| code.starts_with(class))
    })
}

fn not_a_hash() -> sqlx::Error {
    sqlx::Error::Decode("the idempotency table holds a key hash that is not 32 bytes long".into())
}
