//! Finishing what was interrupted, without being told what: the sweep takes whatever is due and puts it through
//! the same path as a request.
//!
//! It asks the breaker before it takes work, so that a dead inventory costs one probe and not a lease for every
//! waiting order; and it stops when the process does, leaving its leases to end by themselves.

pub mod admin;
pub mod waiting;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use journal::{Cause, DatabaseError};
use mainstay::breaker::BreakerState;
use mainstay::context::Priority;
use mainstay::{CorrelationId, RequestContext};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::app::drive::{Driven, Driver};
use crate::domain::Status;
use crate::store::{Order, work};

/// How often a sweep looks for work that nobody has told it of. A fifth of a second is well inside the five
/// seconds in which everything is to be resolved once inventory is back, and costs two index look-ups.
const TICK: Duration = Duration::from_millis(200);
/// Orders taken at once while inventory is well.
const BATCH: i64 = 128;
/// Orders taken at once while its breaker is half-open or ramping: enough to feed the probes, few enough to put
/// back.
const PROBES: i64 = 4;
/// Calls to inventory at once: a quarter of what the client's bulkhead lets through, so that requests keep the
/// rest.
const CONCURRENCY: usize = 32;
/// Time one order's call may take, retries included.
const CALL: Duration = Duration::from_secs(3);

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Swept {
    /// Orders it took.
    pub taken: u64,
    /// Of these, moved to another state.
    pub moved: u64,
    /// Of these, put back to be tried again.
    pub waiting: u64,
    /// Of these, taken over by somebody else meanwhile.
    pub overtaken: u64,
    /// Of these, left to the end of their lease, because the database failed.
    pub failed: u64,
}

impl Swept {
    fn add(mut self, other: Self) -> Self {
        self.taken += other.taken;
        self.moved += other.moved;
        self.waiting += other.waiting;
        self.overtaken += other.overtaken;
        self.failed += other.failed;
        self
    }
}

/// Sweeps until `stopping` resolves. Run it in one task; any number of replicas may run one each.
pub async fn run(app: App, stopping: impl Future<Output = ()>) {
    let mut stopping = std::pin::pin!(stopping);
    let mut last_gauges = None;
    loop {
        tokio::select! {
            () = &mut stopping => return,
            () = app.nudge.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
        match sweep(&app, "sweep:reconciler").await {
            // There may be more: the next turn comes at once.
            Ok(swept) if swept.moved > 0 => app.nudge.notify_one(),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the sweep could not ask the database for work"),
        }
        if last_gauges.is_none_or(|at: tokio::time::Instant| at.elapsed() >= Duration::from_secs(1)) {
            last_gauges = Some(tokio::time::Instant::now());
            if let Err(error) = gauges(&app).await {
                tracing::warn!(%error, "the unresolved orders could not be counted");
            }
        }
    }
}

/// One pass over what is due: unresolved orders, then holds that should have run out.
pub async fn sweep(app: &App, principal: &str) -> Result<Swept, DatabaseError> {
    let limit = allowance(app);
    if limit == 0 {
        return Ok(Swept::default());
    }
    let unresolved = app
        .database
        .transaction(None, limit, |connection, &limit| {
            Box::pin(
                async move { Ok(journal::Step::Commit(work::take_unresolved(connection, limit).await?)) },
            )
        })
        .await?;
    let resolved = stream::iter(unresolved).map(|order| resolve(app, principal, order));
    let mut swept = resolved.buffer_unordered(CONCURRENCY).fold(Swept::default(), add).await;
    let lapsed = app
        .database
        .transaction(None, limit, |connection, &limit| {
            Box::pin(async move { Ok(journal::Step::Commit(work::take_lapsed(connection, limit).await?)) })
        })
        .await?;
    let expired = stream::iter(lapsed).map(|order| resolve(app, principal, order));
    swept = expired.buffer_unordered(CONCURRENCY).fold(swept, add).await;
    metrics::counter!("mainstay_sweep_orders_total", "result" => "moved").increment(swept.moved);
    metrics::counter!("mainstay_sweep_orders_total", "result" => "waiting").increment(swept.waiting);
    metrics::counter!("mainstay_sweep_orders_total", "result" => "failed").increment(swept.failed);
    Ok(swept)
}

async fn add(total: Swept, one: Swept) -> Swept {
    total.add(one)
}

/// How many orders may be taken now, by the word of inventory's breaker.
fn allowance(app: &App) -> i64 {
    let states = app.breakers.list().into_iter().map(|b| match b.state {
        BreakerState::Open | BreakerState::ForcedOpen => 0,
        BreakerState::HalfOpen | BreakerState::Ramping => PROBES,
        BreakerState::Closed | BreakerState::ForcedClosed => BATCH,
    });
    states.min().unwrap_or(BATCH)
}

async fn resolve(app: &App, principal: &str, order: Order) -> Swept {
    let mut context = RequestContext::background(CALL);
    context.priority = Priority::Critical;
    // That of the request that began what is finished here, so that its whole story is found under one name.
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
    let driven = if order.status == Status::Reserved {
        app.lapse(&driver, order).await
    } else {
        app.drive(&driver, order).await.map(|(driven, _)| driven)
    };
    let one = Swept { taken: 1, ..Swept::default() };
    match driven {
        Ok(Driven::Moved(_)) => Swept { moved: 1, ..one },
        Ok(Driven::Waiting(_)) => Swept { waiting: 1, ..one },
        Ok(Driven::Overtaken) => Swept { overtaken: 1, ..one },
        Err(error) => {
            tracing::warn!(order_id = %id, %error, "an outcome could not be recorded; its lease will end and it will be asked again");
            Swept { failed: 1, ..one }
        }
    }
}

/// Unresolved orders and the age of the oldest, by state; one-hot over every unresolved state, so that a state
/// that has emptied reads zero.
async fn gauges(app: &App) -> Result<(), DatabaseError> {
    let counts = app.database.read(None, (), |connection, ()| Box::pin(work::unresolved(connection))).await?;
    let mut oldest = 0.0_f64;
    for status in Status::ALL.into_iter().filter(|s| s.is_unresolved()) {
        let name = journal::State::as_str(status);
        let (count, age) =
            counts.iter().find(|(n, ..)| n == name).map_or((0, 0.0), |(_, count, age)| (*count, *age));
        #[allow(clippy::cast_precision_loss)] // a gauge; 2^53 unresolved orders are not expected
        metrics::gauge!("mainstay_orders_unresolved", "status" => name).set(count as f64);
        oldest = oldest.max(age);
    }
    metrics::gauge!("mainstay_orders_unresolved_oldest_seconds").set(oldest);
    Ok(())
}
