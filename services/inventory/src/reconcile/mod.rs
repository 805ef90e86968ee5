//! Work without a request: expiring holds and measuring, periodically. The routes for operators are here too.

pub mod admin;

use std::time::Duration;

use evidence::{Event, Recorder, StepEvent, Verdict};
use journal::DatabaseError;
use tokio::time::{Instant, MissedTickBehavior};

use crate::app::App;
use crate::app::expire::SWEEP;

/// Interval between sweeps for ended holds. Half a second is a tenth of the time in which orders have to follow, and
/// costs one look-up in an index of held reservations alone.
const TICK: Duration = Duration::from_millis(500);
/// Interval between counts of held reservations.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// Sweeps until `stopping` resolves. Each process runs it in one task; any number of replicas may run it.
pub async fn run(app: App, events: Recorder, stopping: impl Future<Output = ()>) {
    let mut stopping = std::pin::pin!(stopping);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counted = None::<Instant>;
    describe();
    loop {
        tokio::select! {
            () = &mut stopping => return,
            _ = tick.tick() => {}
        }
        let began = Instant::now();
        let expired = app.expire_due(SWEEP).await;
        record(&events, began, &expired);
        match expired {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "sweep: holds expired"),
            Err(error) => {
                tracing::warn!(%error, "sweep: due holds not expired; the next sweep tries again");
            }
        }
        if counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY) {
            counted = Some(Instant::now());
            if let Err(error) = count(&app).await {
                tracing::warn!(%error, "sweep: holds could not be counted");
            }
        }
    }
}

/// Records a pass that ended holds or failed.
fn record(events: &Recorder, began: Instant, expired: &Result<u64, DatabaseError>) {
    let error = expired.as_ref().err().map(ToString::to_string);
    let ended = expired.as_ref().copied().unwrap_or_default();
    if ended == 0 && error.is_none() {
        return;
    }
    events.record(&Event::Step(&StepEvent {
        verdict: if error.is_none() { Verdict::Good } else { Verdict::Bad },
        step: "expire holds",
        duration_ms: chassis::events::millis(began.elapsed()),
        taken: ended,
        moved: ended,
        error: error.as_deref(),
        ..StepEvent::default()
    }));
}

async fn count(app: &App) -> Result<(), DatabaseError> {
    app.database().publish_connections();
    let held = app.store.held().await.inspect_err(|_| set_held(f64::NAN, f64::NAN))?;
    #[allow(clippy::cast_precision_loss, reason = "a gauge; 2^53 holds are not expected")]
    set_held(held.count as f64, held.overdue_seconds);
    #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 2^53")]
    let now = (journal::clock::wall_now().unix_timestamp_nanos() / 1_000_000) as f64 / 1_000.0;
    metrics::gauge!("mainstay_reservations_read_timestamp_seconds").set(now);
    Ok(())
}

/// Sets the gauges of holds. They are NaN while the database does not answer.
fn set_held(count: f64, overdue: f64) {
    metrics::gauge!("mainstay_reservations_held").set(count);
    metrics::gauge!("mainstay_reservations_overdue_seconds").set(overdue);
}

fn describe() {
    metrics::describe_gauge!("mainstay_reservations_held", "Reservations in held");
    metrics::describe_gauge!(
        "mainstay_reservations_overdue_seconds",
        "Time since the end of the most overdue hold"
    );
    metrics::describe_gauge!(
        "mainstay_reservations_read_timestamp_seconds",
        "Unix time of the reading that the two gauges of holds are of; 0 before the first"
    );
    metrics::gauge!("mainstay_reservations_read_timestamp_seconds").set(0.0);
    set_held(f64::NAN, f64::NAN);
}
