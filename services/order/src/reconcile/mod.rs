//! The reconciler: the sweep takes every due order and advances it by the same path as a request does. The rows have
//! the times at which orders are due, so the sweep needs no message.
//!
//! It reads the breaker before it takes work, so that a dead inventory costs one probe and not a lease for every
//! waiting order. It stops with the process, and its leases end by themselves.

pub mod admin;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chassis::tasks::Tasks;
use evidence::{Event, Recorder, StepEvent, Verdict};
use futures_util::{FutureExt, StreamExt, stream};
use journal::{Cause, DatabaseError};
use mainstay::breaker::BreakerState;
use mainstay::context::Priority;
use mainstay::{CorrelationId, RequestContext};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::advance::{Advanced, Driver};
use crate::app::{App, meters};
use crate::domain::Status;
use crate::store::{Due, Order};

/// Interval between sweeps that no signal started. A fifth of a second is well inside the five seconds in which all
/// orders are to be resolved once inventory is back, and costs two searches by an index.
const TICK: Duration = Duration::from_millis(200);
/// Orders taken at once while inventory's breakers are closed.
const BATCH: i64 = 128;
/// Orders taken at once while a breaker is half-open or ramping: enough for the probes, and few enough to put back.
const PROBES: i64 = 4;
/// Calls to inventory at once: a quarter of the client's bulkhead, so that requests keep the rest.
const CONCURRENCY: usize = 32;
/// Stuck orders taken at once: an eighth of [`BATCH`], so that they cost the other orders little.
const STUCK_BATCH: i64 = 16;
/// Calls for stuck orders at once: an eighth of [`CONCURRENCY`].
const STUCK_CONCURRENCY: usize = 4;
/// Interval between sweeps of stuck orders: the shortest back-off of one. After a full batch the interval is [`TICK`].
const STUCK_TICK: Duration = Duration::from_secs(1);
/// Interval between counts of the unresolved orders, for gauges and readiness.
const READING: Duration = Duration::from_secs(1);
/// Principal of the sweep's entries in the journal.
const SWEEP: &str = "sweep:reconciler";
/// Deadline of the call for one order, retries included.
const CALL: Duration = Duration::from_secs(3);

/// Result of a sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Swept {
    /// Orders that the sweep took.
    pub taken: u64,
    /// Taken orders that moved to another status.
    pub moved: u64,
    /// Taken orders that were put back, to be tried again.
    pub waiting: u64,
    /// Taken orders that another driver took over during the sweep.
    pub overtaken: u64,
    /// Taken orders that keep their lease until it ends, because the database failed.
    pub failed: u64,
}

impl Swept {
    /// The sum of two results.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.taken += other.taken;
        self.moved += other.moved;
        self.waiting += other.waiting;
        self.overtaken += other.overtaken;
        self.failed += other.failed;
        self
    }
}

/// Starts the sweeps and the counts of unresolved orders. They run until `tasks` stop, in any number of replicas.
/// Stuck orders have a sweep of their own, so that their slow tries delay no other order. Each loop is a task of its
/// own, so that no loop ends with another.
pub fn run(app: &Arc<App>, tasks: &Tasks, events: &Recorder) {
    let (unresolved, holds, stuck, counted) = (app.clone(), app.clone(), app.clone(), app.clone());
    let (first, second, third) = (events.clone(), events.clone(), events.clone());
    tasks.supervise("reconciler", move |tasks| sweep_often(unresolved.clone(), tasks, first.clone()));
    tasks.supervise("order-holds", move |tasks| {
        sweep_in_turns(holds.clone(), tasks, second.clone(), Due::EndedHold)
    });
    tasks.supervise("stuck-orders", move |tasks| {
        sweep_in_turns(stuck.clone(), tasks, third.clone(), Due::Stuck)
    });
    tasks.supervise("order-counts", move |tasks| count(counted.clone(), tasks));
}

/// Sweeps the unresolved orders at each tick, and when a request or a sweep gives the signal.
async fn sweep_often(app: Arc<App>, tasks: Tasks, events: Recorder) {
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            () = app.nudge.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
        if app.take_recovered()
            && let Err(error) = app.store.make_due_now().await
        {
            tracing::warn!(%error, "sweep: waiting orders could not be made due");
        }
        if sweep_once(&app, &events, Due::Unresolved).await.moved > 0 {
            // There may be more: the next turn comes at once.
            app.nudge.notify_one();
        }
    }
}

/// Sweeps orders of one kind. The next sweep comes sooner when there may be more.
async fn sweep_in_turns(app: Arc<App>, tasks: Tasks, events: Recorder, due: Due) {
    let long = if due == Due::Stuck { STUCK_TICK } else { TICK };
    let mut wait = long;
    while pause(&tasks, wait).await {
        let swept = sweep_once(&app, &events, due).await;
        wait = match due {
            Due::Stuck if swept.taken >= STUCK_BATCH.unsigned_abs() => TICK,
            Due::EndedHold if swept.moved > 0 => Duration::ZERO,
            Due::Stuck | Due::EndedHold | Due::Unresolved => long,
        };
    }
}

async fn sweep_once(app: &App, events: &Recorder, due: Due) -> Swept {
    let began = Instant::now();
    let swept = take(app, SWEEP, due).await;
    record(events, due, began, &swept);
    swept.unwrap_or_else(|error| {
        tracing::warn!(%error, ?due, "sweep: due orders could not be taken");
        Swept::default()
    })
}

/// Records a pass that took orders or failed.
fn record(events: &Recorder, due: Due, began: Instant, swept: &Result<Swept, DatabaseError>) {
    let error = swept.as_ref().err().map(ToString::to_string);
    let Swept { taken, moved, waiting, failed, .. } = swept.as_ref().copied().unwrap_or_default();
    if taken == 0 && error.is_none() {
        return;
    }
    events.record(&Event::Step(&StepEvent {
        verdict: if failed == 0 && error.is_none() { Verdict::Good } else { Verdict::Bad },
        step: match due {
            Due::Unresolved => "sweep unresolved orders",
            Due::EndedHold => "expire orders",
            Due::Stuck => "sweep stuck orders",
        },
        duration_ms: chassis::events::millis(began.elapsed()),
        taken,
        moved,
        waiting,
        failed,
        error: error.as_deref(),
    }));
}

async fn count(app: Arc<App>, tasks: Tasks) {
    while pause(&tasks, READING).await {
        app.breakers.refresh_gauges();
        app.store.database().publish_connections();
        if let Err(error) = app.read_unresolved().await {
            tracing::warn!(%error, "sweep: unresolved orders could not be counted");
        }
    }
}

/// Waits for `long`; `false` when the tasks are to stop.
async fn pause(tasks: &Tasks, long: Duration) -> bool {
    tokio::select! {
        () = tasks.stopping() => false,
        () = tokio::time::sleep(long) => true,
    }
}

/// One pass over the due orders: unresolved orders that are not stuck, then orders whose hold should have ended.
pub async fn sweep(app: &App, principal: &str) -> Result<Swept, DatabaseError> {
    let unresolved = take(app, principal, Due::Unresolved).await?;
    Ok(unresolved.and(take(app, principal, Due::EndedHold).await?))
}

/// Takes due orders of one kind and resolves them, and notes the rows that cannot be read.
async fn take(app: &App, principal: &str, due: Due) -> Result<Swept, DatabaseError> {
    let (limit, concurrency) = match due {
        Due::Unresolved | Due::EndedHold => (BATCH, CONCURRENCY),
        Due::Stuck => (STUCK_BATCH, STUCK_CONCURRENCY),
    };
    let limit = allowance(app).min(limit);
    if limit == 0 {
        return Ok(Swept::default());
    }
    let (orders, unreadable) = app.store.claim_due(due, limit).await?;
    for fault in unreadable {
        app.unreadable.note("orders", fault.id, fault.why);
    }
    let resolved = stream::iter(orders).map(|order| resolve(app, principal, order));
    let swept =
        resolved.buffer_unordered(concurrency).fold(Swept::default(), async |all, one| all.and(one)).await;
    let counts = [swept.moved, swept.waiting, swept.overtaken, swept.failed];
    for (result, count) in meters::SWEEP_RESULTS.into_iter().zip(counts) {
        meters::swept(result).increment(count);
    }
    Ok(swept)
}

/// The number of orders that may be taken now, by the state of inventory's breakers.
fn allowance(app: &App) -> i64 {
    let states = app.breakers.list().into_iter().map(|b| match b.state {
        BreakerState::Open | BreakerState::ForcedOpen => 0,
        BreakerState::HalfOpen | BreakerState::Ramping => PROBES,
        BreakerState::Closed | BreakerState::ForcedClosed => BATCH,
    });
    states.min().unwrap_or(BATCH)
}

/// Resolves one order. A failure of this order, a panic included, does not reach the other orders.
async fn resolve(app: &App, principal: &str, order: Order) -> Swept {
    let mut context = RequestContext::background(CALL);
    context.priority = Priority::Critical;
    // The calls have the correlation id of the interrupted request, so that one id finds its whole history.
    if let Ok(id) = CorrelationId::parse(&order.head_correlation_id) {
        context.correlation_id = id;
    }
    let cause = Cause {
        principal: principal.into(),
        key_hash: None,
        correlation_id: Arc::clone(&order.head_correlation_id),
        trace_id: Some(context.trace.trace_id_hex().into()),
    };
    let driver = Driver { context, cause };
    let (id, order) = (order.id, Arc::new(order));
    let driving = async {
        if order.status == Status::Reserved {
            app.expire(&driver, order).await
        } else {
            app.advance(&driver, order).await
        }
    };
    let one = Swept { taken: 1, ..Swept::default() };
    match AssertUnwindSafe(driving).catch_unwind().await {
        Ok(Ok(Advanced::Moved(_))) => Swept { moved: 1, ..one },
        Ok(Ok(Advanced::Waiting(_))) => Swept { waiting: 1, ..one },
        Ok(Ok(Advanced::Overtaken)) => Swept { overtaken: 1, ..one },
        Ok(Err(error)) => {
            tracing::warn!(order_id = %id, %error, "sweep: outcome not recorded; retry when the lease ends");
            Swept { failed: 1, ..one }
        }
        Err(_) => {
            tracing::error!(order_id = %id, "sweep: order not resolved because of a panic; retry when the lease ends");
            Swept { failed: 1, ..one }
        }
    }
}
