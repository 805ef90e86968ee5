//! Readiness of a service's own database: reachable, writable, and at the schema that this release needs.

use std::time::Duration;

use journal::{Database, DatabaseError};
use sqlx::migrate::Migrator;
use tokio::time::Instant;

use crate::ops::Condition;

/// Shorter than readiness may take, so that it is the database that is named when it has no room or does not answer.
const LONGEST: Duration = Duration::from_millis(800);

/// $1 the versions that this release needs: whether a write is refused by the session, whether the server is a standby,
/// the first version that is missing, the newest that this release does not know.
const LOOK: &str = "SELECT current_setting('transaction_read_only')::boolean, pg_is_in_recovery(),
    (SELECT min(version) FROM unnest($1::bigint[]) version
     WHERE version NOT IN (SELECT version FROM _sqlx_migrations WHERE success)),
    (SELECT max(version) FROM _sqlx_migrations WHERE version <> ALL ($1))";

#[derive(sqlx::FromRow)]
struct Seen(bool, bool, Option<i64>, Option<i64>);

/// Asks the database whether it takes writes and has every migration of this release, for 800 ms at most. A migration that
/// it has besides is of a later release, which has expanded the schema; it still serves this one.
///
/// `own` is readiness's own pool. Of the pool of the requests, `served`, it is reported whether requests wait for a
/// connection and whether the last transactions failed: neither is mended by taking the replica out of rotation.
pub async fn conditions(own: &Database, served: &Database, needed: &Migrator) -> Vec<Condition> {
    let needed: Vec<i64> = needed.iter().map(|migration| migration.version).collect();
    let deadline = Instant::now() + LONGEST;
    let mut seen = look(own, deadline, &needed).await;
    if matches!(seen, Ok(Seen(true, ..))) {
        // The session may have begun under a setting that was taken back since.
        own.retire_sessions();
        seen = look(own, deadline, &needed).await;
    }
    match seen {
        Ok(Seen(is_read_only, is_standby, missing, newer)) => {
            let mut conditions = vec![writable(is_read_only, is_standby), schema(missing, newer)];
            // Reported only: a service that is asked nothing more would never find out that it is over.
            conditions.extend(served.failing().map(|condition| {
                Condition::reported("writes", false)
                    .detail(format!("the last transactions failed: the database {condition}"))
            }));
            conditions.extend(connections(served));
            conditions
        }
        Err(error) => {
            tracing::warn!(%error, "the database is not ready");
            let detail = error.condition().unwrap_or("cannot be read; the log says why");
            vec![Condition::deciding("database", false).detail(detail)]
        }
    }
}

fn connections(served: &Database) -> Option<Condition> {
    let waiting = served.waiting();
    let detail = format!("no connection is free, requests waiting for one: {waiting}");
    (waiting > 0).then(|| Condition::reported("connections", false).detail(detail))
}

async fn look(database: &Database, deadline: Instant, needed: &Vec<i64>) -> Result<Seen, DatabaseError> {
    let look = database.read(Some(deadline), needed, |connection, needed| {
        Box::pin(sqlx::query_as(LOOK).bind(needed).fetch_one(connection))
    });
    look.await
}

fn writable(is_read_only: bool, is_standby: bool) -> Condition {
    let database = Condition::deciding("database", !is_read_only && !is_standby);
    if is_standby {
        database.detail("read-only: the server is a standby")
    } else if is_read_only {
        database.detail("read-only: default_transaction_read_only is on for this role, database or server")
    } else {
        database
    }
}

fn schema(missing: Option<i64>, newer: Option<i64>) -> Condition {
    let schema = Condition::deciding("schema", missing.is_none());
    match (missing, newer) {
        (Some(missing), _) => {
            schema.detail(format!("lacks version {missing}, which this release needs: run `migrate`"))
        }
        (None, Some(newer)) => schema.detail(format!("is newer than this release: version {newer}")),
        (None, None) => schema,
    }
}
