//! Readiness of a service's own database: reachable, and at the schema that this release needs.

use std::time::Duration;

use journal::Database;
use sqlx::migrate::Migrator;
use tokio::time::Instant;

use crate::ops::Condition;

/// Shorter than readiness may take, so that it is the database that is named when it has no room or does not answer.
const LONGEST: Duration = Duration::from_millis(800);

/// Asks the database whether it has every migration of this release, for 800 ms at most. One that it has besides is of a
/// later release, which has expanded the schema; it still serves this one. `own` is readiness's own pool. The pool of the
/// requests, `served`, is only reported: it is full when the service is busy, and an idle replica does not mend that.
pub async fn conditions(own: &Database, served: &Database, needed: &Migrator) -> Vec<Condition> {
    let mut conditions = of_schema(own, needed).await;
    let waiting = served.waiting();
    if waiting > 0 {
        let detail = format!("no connection is free, requests waiting for one: {waiting}");
        conditions.push(Condition::reported("connections", false).detail(detail));
    }
    conditions
}

async fn of_schema(database: &Database, needed: &Migrator) -> Vec<Condition> {
    let needed: Vec<i64> = needed.iter().map(|migration| migration.version).collect();
    let missing = database
        .read(Some(Instant::now() + LONGEST), needed, |connection, needed| {
            let missing = "SELECT min(version) FROM unnest($1::bigint[]) version
                WHERE version NOT IN (SELECT version FROM _sqlx_migrations WHERE success)";
            Box::pin(sqlx::query_scalar::<_, Option<i64>>(missing).bind(needed).fetch_one(connection))
        })
        .await;
    match missing {
        Ok(None) => vec![Condition::deciding("database", true), Condition::deciding("schema", true)],
        Ok(Some(missing)) => {
            let detail = format!("lacks version {missing}, which this release needs: run `migrate`");
            vec![Condition::deciding("database", true), Condition::deciding("schema", false).detail(detail)]
        }
        Err(error) => {
            tracing::warn!(%error, "the database is not ready");
            vec![Condition::deciding("database", false).detail("cannot be read; the log says why")]
        }
    }
}
