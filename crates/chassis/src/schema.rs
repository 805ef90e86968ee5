//! Readiness of a service's own database: reachable, and at the schema that this release needs.

use journal::Database;

use crate::ops::Condition;

/// Asks the database for the newest migration it has.
pub async fn conditions(database: &Database, needed: i64) -> Vec<Condition> {
    let newest = database
        .read(None, (), |connection, ()| {
            let newest = "SELECT max(version) FROM _sqlx_migrations WHERE success";
            Box::pin(sqlx::query_scalar::<_, Option<i64>>(newest).fetch_one(connection))
        })
        .await;
    match newest {
        // A newer schema is one that a later release has expanded; it still serves this one.
        Ok(found) if found.unwrap_or(0) >= needed => {
            vec![Condition::deciding("database", true), Condition::deciding("schema", true)]
        }
        Ok(found) => {
            let detail = format!("is at {}, this release needs {needed}: run `migrate`", found.unwrap_or(0));
            vec![Condition::deciding("database", true), Condition::deciding("schema", false).detail(detail)]
        }
        Err(error) => {
            tracing::warn!(%error, "the database is not ready");
            vec![Condition::deciding("database", false).detail("cannot be read; the log says why")]
        }
    }
}
