//! Deletion of idempotency keys whose retention is over.

use std::time::Duration;

use journal::Database;
use journal::retention::delete_expired;

use crate::tasks::Tasks;

/// Interval between deletions. Retention is counted in days.
const EVERY: Duration = Duration::from_mins(1);

/// Deletes old idempotency keys in the background, at the start and then every minute, until `tasks` stop.
pub fn spawn(tasks: &Tasks, database: Database) {
    tasks.supervise("retention", move |tasks| {
        let database = database.clone();
        async move { run(database, tasks.stopping()).await }
    });
}

/// Deletes old keys, at once and then every minute, until `stopping` resolves. A batch in progress is then rolled back. Any
/// number of replicas may run one each.
async fn run(database: Database, stopping: impl Future<Output = ()>) {
    let deleting = async {
        loop {
            if let Err(error) = delete_expired(&database).await {
                tracing::warn!(%error, "old idempotency keys not deleted; the next try is in a minute");
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = stopping => {}
        () = deleting => {}
    }
}
