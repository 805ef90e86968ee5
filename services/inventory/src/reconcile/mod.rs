//! What happens without being asked: holds end, figures are taken.

pub mod admin;
pub mod holders;

use std::time::Duration;

use journal::DatabaseError;
use tokio::time::{Instant, MissedTickBehavior};

use crate::app::Inventory;
use crate::app::expire::SWEEP;

/// How often ended holds are looked for. Half a second is a tenth of the time in which orders have to follow, and
/// costs one look into an index that holds only what is held.
const TICK: Duration = Duration::from_millis(500);
/// How often what is held is counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Sweeps until `stopping` resolves. Run it in one task; any number of replicas may run one each.
pub async fn run(inventory: Inventory, stopping: impl Future<Output = ()>) {
    let mut stopping = std::pin::pin!(stopping);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counted = None::<Instant>;
    loop {
        tokio::select! {
            () = &mut stopping => return,
            _ = tick.tick() => {}
        }
        match inventory.expire_due(SWEEP).await {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "ended holds whose time was up"),
            Err(error) => {
                tracing::warn!(%error, "the sweep could not end what is due; the next one tries again");
            }
        }
        if counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY) {
            counted = Some(Instant::now());
            if let Err(error) = count(&inventory).await {
                tracing::warn!(%error, "what is held could not be counted");
            }
        }
    }
}

async fn count(inventory: &Inventory) -> Result<(), DatabaseError> {
    let (open, idle) = inventory.database().connections();
    metrics::gauge!("mainstay_db_connections", "state" => "open")
        .set(u32::try_from(open).unwrap_or(u32::MAX));
    metrics::gauge!("mainstay_db_connections", "state" => "idle")
        .set(u32::try_from(idle).unwrap_or(u32::MAX));
    let held = inventory.held().await?;
    #[allow(clippy::cast_precision_loss, reason = "a gauge; 2^53 holds are not expected")]
    metrics::gauge!("mainstay_reservations_held").set(held.count as f64);
    metrics::gauge!("mainstay_reservations_overdue_seconds").set(held.overdue_seconds);
    Ok(())
}
