//! Forgetting idempotency keys whose retention is over.

use std::time::Duration;

use journal::{Database, idempotency};

use crate::tasks::Tasks;

/// How often old keys are looked for: their retention is counted in days.
const EVERY: Duration = Duration::from_mins(1);

/// Deletes old idempotency keys in the background, at the start and then every minute, until `tasks` stop.
pub fn spawn(tasks: &Tasks, database: Database) {
    tasks.supervise("retention", move |tasks| {
        let database = database.clone();
        async move { run(database, tasks.stopping()).await }
    });
}

/// Forgets old keys, at once and then every minute, until `stopping` resolves; a batch that is then under way is undone.
/// Run it in one task; any number of replicas may run one each.
async fn run(database: Database, stopping: impl Future<Output = ()>) {
    let forgetting = async {
        loop {
            if let Err(error) = idempotency::reap(&database).await {
                tracing::warn!(%error, "old idempotency keys could not be forgotten");
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = stopping => {}
        () = forgetting => {}
    }
}
