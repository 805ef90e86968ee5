//! Readiness of a service's own database: reachable, writable, and at the schema that this release needs.

use std::time::Duration;

use journal::{Database, DatabaseError};
use sqlx::migrate::Migrator;
use tokio::time::Instant;

use crate::ops::Condition;

/// Longest time for the query. It is shorter than the time for all of readiness, so that a database that does not answer is
/// named.
const LONGEST: Duration = Duration::from_millis(800);

/// Columns: the session refuses writes, the server is a standby, the first missing version, the newest version that this
/// release does not know. $1 is the list of versions that this release needs.
const STATE: &str = "SELECT current_setting('transaction_read_only')::boolean, pg_is_in_recovery(),
    (SELECT min(version) FROM unnest($1::bigint[]) version
     WHERE version NOT IN (SELECT version FROM _sqlx_migrations WHERE success)),
    (SELECT max(version) FROM _sqlx_migrations WHERE version <> ALL ($1))";

struct SchemaState(bool, bool, Option<i64>, Option<i64>);

/// Reads whether the database takes writes and has every migration of this release, within 800 ms. Further migrations are
/// those of a later release, whose expanded schema serves this release too.
///
/// `own` is the pool of readiness. The pool of the requests, `served`, adds two conditions that decide nothing, because
/// another replica would have the same: requests wait for a connection, and the last transactions failed.
pub async fn conditions(own: &Database, served: &Database, needed: &Migrator) -> Vec<Condition> {
    let needed: Vec<i64> = needed.iter().map(|migration| migration.version).collect();
    let deadline = Instant::now() + LONGEST;
    let mut state = read_state(own, deadline, &needed).await;
    if matches!(state, Ok(SchemaState(true, ..))) {
        // The session may have begun under a setting that was reset since.
        own.retire_sessions();
        state = read_state(own, deadline, &needed).await;
    }
    match state {
        Ok(SchemaState(is_read_only, is_standby, missing, newer)) => {
            let mut conditions = vec![writable(is_read_only, is_standby), schema(missing, newer)];
            // It decides nothing: a replica without requests would never see that transactions succeed again.
            conditions.extend(served.failing().map(|condition| {
                Condition::reported("writes", false)
                    .detail(format!("the last transactions failed: the database {condition}"))
            }));
            conditions.extend(connections(served));
            conditions
        }
        Err(error) => {
            tracing::warn!(%error, "database not ready");
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

async fn read_state(
    database: &Database,
    deadline: Instant,
    needed: &Vec<i64>,
) -> Result<SchemaState, DatabaseError> {
    let state = database.read(Some(deadline), needed, |connection, needed| {
        Box::pin(sqlx::query_as(STATE).bind(needed).fetch_one(connection))
    });
    let (is_read_only, is_standby, missing, newer) = state.await?;
    Ok(SchemaState(is_read_only, is_standby, missing, newer))
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
