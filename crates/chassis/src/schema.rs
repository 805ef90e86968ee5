//! Readiness of a service's own database: reachable, and at the schema that this release needs.

use journal::Database;
use sqlx::migrate::Migrator;

use crate::ops::Condition;

/// Asks the database whether it has every migration of this release. One that it has besides is of a later release,
/// which has expanded the schema; it still serves this one.
pub async fn conditions(database: &Database, needed: &Migrator) -> Vec<Condition> {
    let needed: Vec<i64> = needed.iter().map(|migration| migration.version).collect();
    let missing = database
        .read(None, needed, |connection, needed| {
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
