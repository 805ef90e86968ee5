//! The PostgreSQL cluster that the journal lives in, and the mark that a restore leaves.
//!
//! The feed tells new entries from old ones by transaction ids, and each cluster has its own ids. After a logical restore into
//! another cluster the stored ids have no meaning there. If they are above all ids of that cluster, the feed would not show
//! the entries, and later it would show them as new. So the owner's `migrate` detects the move and marks where the history
//! ends. Entries up to the mark are read by `seq` alone, entries after it by transaction id.

use sqlx::{Connection, PgConnection};

/// Mark of a journal that came from another cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Number of times that the journal has come from another cluster.
    pub epoch: i32,
    /// `seq` of the last entry from there.
    pub history_end: i64,
}

crate::from_row!(Restored { epoch, history_end });

struct Known {
    system_identifier: Option<i64>,
    history_end: i64,
}

crate::from_row!(Known { system_identifier, history_end });

/// Finds entries after the history ($1) whose transaction this cluster has not begun.
const FOREIGN: &str = "SELECT EXISTS (SELECT FROM journal
    WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()) AND seq > $1)";

/// Marks the end of the history. $1 is the identifier of the cluster. The table is locked against writers.
const MARK: &str = "INSERT INTO journal_clusters (epoch, system_identifier, history_end)
    SELECT coalesce(max(epoch), 0) + 1, $1, (SELECT coalesce(max(seq), 0) FROM journal) FROM journal_clusters
    RETURNING epoch, history_end";

/// Moves the sequence past the history, because a restore of the rows alone leaves it behind. $1 is the end of the history.
const SEQUENCE: &str = "SELECT setval('journal_seq_seq', $1) FROM journal_seq_seq WHERE last_value < $1";

/// Records the cluster that the journal lives in, and marks the end of the history if the journal came from another cluster. Run it
/// as the owner, in one session at a time.
pub async fn mark(connection: &mut PgConnection) -> Result<Option<Restored>, sqlx::Error> {
    let here = system_identifier(connection).await?;
    let known: Option<Known> = sqlx::query_as(
        "SELECT system_identifier, history_end FROM journal_clusters ORDER BY epoch DESC LIMIT 1",
    )
    .fetch_optional(&mut *connection)
    .await?;
    let history_end = known.as_ref().map_or(0, |known| known.history_end);
    let has_moved = known
        .as_ref()
        .and_then(|known| known.system_identifier)
        .zip(here)
        .is_some_and(|(before, here)| before != here);
    let is_foreign: bool = sqlx::query_scalar(FOREIGN).bind(history_end).fetch_one(&mut *connection).await?;
    if has_moved || is_foreign {
        return mark_restore(connection, here).await.map(Some);
    }
    if known.is_none() {
        sqlx::query("INSERT INTO journal_clusters (epoch, system_identifier, history_end) VALUES (0, $1, 0)")
            .bind(here)
            .execute(connection)
            .await?;
    }
    Ok(None)
}

async fn mark_restore(connection: &mut PgConnection, here: Option<i64>) -> Result<Restored, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // The lock waits for entries that have a number and are not committed: the mark must include them.
    sqlx::query("LOCK TABLE journal IN SHARE MODE").execute(&mut *transaction).await?;
    let restored: Restored = sqlx::query_as(MARK).bind(here).fetch_one(&mut *transaction).await?;
    sqlx::query(SEQUENCE).bind(restored.history_end).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(restored)
}

/// The identifier of the cluster; `None` if the role may not read it.
async fn system_identifier(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    let may_read = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')";
    if !sqlx::query_scalar::<_, bool>(may_read).fetch_one(&mut *connection).await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT system_identifier FROM pg_control_system()").fetch_one(connection).await
}
