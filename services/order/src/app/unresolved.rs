//! The number of unresolved orders, read once a second, for gauges and for the conditions that readiness reports.
//!
//! Probes use the last reading and do not query the database. Each reading has a time: when the database does not answer,
//! the gauges become NaN, one gauge gives the time of the last reading, and readiness reports that the reading is old.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chassis::ops::Condition;
use chassis::unreadable::plural;
use journal::{DatabaseError, State as _};
use metrics::{describe_gauge, gauge};
use tokio::time::Instant;

use super::App;
use crate::domain::Status;
use crate::store::{Unresolved, UnresolvedOrders};

/// Seconds in one status after which an unresolved order is reported: twice the time in which all orders are resolved
/// once inventory is back.
const WAITS_LONG: f64 = 10.0;

/// The longest time for one reading. A reading searches due orders by an index a few times.
const LONGEST: Duration = Duration::from_secs(2);

/// Age from which a reading is reported as old: two intervals between readings, and the longest time for a reading.
const OLD: Duration = Duration::from_secs(5);

/// The most rows of unknown status, and the most stuck orders, that a reading names.
const NAMED: i64 = 16;

/// The last reading, with its time.
#[derive(Debug)]
pub(super) struct LastReading {
    began: Instant,
    last: Mutex<Option<(Instant, UnresolvedOrders)>>,
}

impl LastReading {
    /// State before the first reading. The series exist from now on, and have no number until the first reading.
    pub(super) fn new() -> Self {
        let read_at =
            "Unix time of the reading that the other mainstay_orders gauges are of; 0 before the first";
        let stuck = "Orders whose tries fail while inventory serves other orders";
        describe_gauge!(
            "mainstay_orders_unresolved",
            "Orders in a status that inventory has to end, by status"
        );
        describe_gauge!(
            "mainstay_orders_unresolved_oldest_seconds",
            "Time in its status of the oldest of these"
        );
        let overdue = "Orders that have been in a status that inventory has to end for longer than 10 s";
        describe_gauge!("mainstay_orders_overdue", overdue);
        describe_gauge!("mainstay_orders_stuck", stuck);
        describe_gauge!("mainstay_orders_unresolved_read_timestamp_seconds", read_at);
        gauge!("mainstay_orders_unresolved_read_timestamp_seconds").set(0.0);
        unknown();
        Self { began: Instant::now(), last: Mutex::default() }
    }
}

/// Sets the gauges to NaN: no number is known.
fn unknown() {
    for status in Status::ALL.into_iter().filter(|s| s.is_unresolved()) {
        gauge!("mainstay_orders_unresolved", "status" => status.as_str()).set(f64::NAN);
    }
    gauge!("mainstay_orders_unresolved_oldest_seconds").set(f64::NAN);
    gauge!("mainstay_orders_overdue").set(f64::NAN);
    gauge!("mainstay_orders_stuck").set(f64::NAN);
}

#[allow(clippy::cast_precision_loss, reason = "a gauge; 2^53 orders are not expected")]
fn publish(reading: &UnresolvedOrders) {
    for status in Status::ALL.into_iter().filter(|s| s.is_unresolved()) {
        let count = reading.by_status.iter().find(|u| u.status == status.as_str()).map_or(0, |u| u.count);
        gauge!("mainstay_orders_unresolved", "status" => status.as_str()).set(count as f64);
    }
    gauge!("mainstay_orders_unresolved_oldest_seconds").set(reading.oldest());
    gauge!("mainstay_orders_overdue").set(reading.sum(|u| u.waiting) as f64);
    gauge!("mainstay_orders_stuck").set(reading.sum(|u| u.stuck) as f64);
    let now = journal::clock::wall_now().unix_timestamp_nanos() / 1_000_000;
    gauge!("mainstay_orders_unresolved_read_timestamp_seconds").set(now as f64 / 1_000.0);
}

impl UnresolvedOrders {
    fn sum(&self, of: impl Fn(&Unresolved) -> i64) -> i64 {
        self.by_status.iter().map(of).sum()
    }

    fn oldest(&self) -> f64 {
        self.by_status.iter().map(|u| u.oldest_seconds).fold(0.0, f64::max)
    }

    fn conditions(&self) -> Vec<Condition> {
        let (waiting, stuck) = (self.sum(|u| u.waiting), self.sum(|u| u.stuck));
        let mut orders = Condition::reported("orders", waiting == 0);
        if waiting > 0 {
            let have = if waiting == 1 { "order has" } else { "orders have" };
            let oldest = self.by_status.iter().max_by(|a, b| a.oldest_seconds.total_cmp(&b.oldest_seconds));
            let id = oldest.map_or_else(String::new, |oldest| format!(": {}", oldest.oldest));
            let age = self.oldest();
            orders = orders.detail(format!(
                "{waiting} {have} waited longer than {WAITS_LONG} s, the oldest {age:.0} s{id}"
            ));
        }
        let mut apart = Condition::reported("stuck", stuck == 0);
        if stuck > 0 {
            let first: Vec<_> = self.stuck.iter().take(3).map(|order| order.id.to_string()).collect();
            apart = apart.detail(format!(
                "{} set apart: inventory fails on them and serves others; first {}",
                plural(usize::try_from(stuck).unwrap_or_default(), "order"),
                first.join(", ")
            ));
        }
        vec![orders, apart]
    }
}

impl App {
    /// Counts the unresolved orders, and notes the waiting rows whose status this release does not know.
    pub async fn read_unresolved(&self) -> Result<(), DatabaseError> {
        let deadline = Some(Instant::now() + LONGEST);
        let reading = self.store.unresolved(deadline, WAITS_LONG, NAMED).await.inspect_err(|_| unknown())?;
        for (id, status) in &reading.of_unknown_status {
            self.unreadable.note("orders", id, format_args!("the status {status:?} is unknown"));
        }
        self.unreadable.publish();
        publish(&reading);
        *self.reading.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), reading));
        Ok(())
    }

    /// Conditions from the last reading: waiting orders, orders set apart, and rows that cannot be read. They are reported
    /// and never make the service unready: each concerns some orders, and the service serves the others.
    pub fn conditions(&self) -> Vec<Condition> {
        let last = self.reading.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let age = last.as_ref().map_or(self.reading.began, |(at, _)| *at).elapsed();
        let mut conditions = match last {
            _ if age > OLD => {
                let detail = format!(
                    "the waiting orders were last counted {} s ago: the database does not answer",
                    age.as_secs()
                );
                vec![Condition::reported("orders", false).detail(detail)]
            }
            Some((_, reading)) => reading.conditions(),
            None => vec![Condition::reported("orders", true).detail("not counted yet")],
        };
        conditions.push(self.unreadable.condition());
        conditions
    }
}
