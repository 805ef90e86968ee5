//! Metrics of orders. Every series exists at zero from the start: a series that begins above zero has no increase, so a
//! rule would miss the first events of a process.

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

use crate::domain::Status;
use crate::domain::status::Step;
use crate::store::Order;

const DECISION: &str = "mainstay_order_decision_seconds";
const MISMATCHES: &str = "mainstay_reservation_mismatches_total";
const SWEPT: &str = "mainstay_sweep_orders_total";

/// Results of the sweep for one order, as [`swept`] names them.
pub(crate) const SWEEP_RESULTS: [&str; 4] = ["moved", "waiting", "overtaken", "failed"];

/// Starts all series at zero.
pub(super) fn start() {
    journal::meters::start_entries(Status::ALL);
    describe_histogram!(
        DECISION,
        Unit::Seconds,
        "From the request for a reserve, confirm or release to inventory's recorded decision, by step"
    );
    for step in [Step::Reserve, Step::Confirm, Step::Release] {
        let _: Histogram = decision(step);
    }
    describe_counter!(
        MISMATCHES,
        "Looks at a reserved order that found its reservation ended without the order"
    );
    for reservation in ["absent", "confirmed", "released", "refused", "voided"] {
        mismatch(reservation).increment(0);
    }
    describe_counter!(SWEPT, "Orders that a sweep took, by result");
    for result in SWEEP_RESULTS {
        swept(result).increment(0);
    }
}

fn decision(step: Step) -> Histogram {
    histogram!(DECISION, "step" => step.as_str())
}

/// Records the time to a decision. A move to a status that still waits for inventory is none.
///
/// A reserve began when the order was placed. A confirm or a release began with the status that the order leaves; once its
/// outcome was unknown, the time counts from there.
pub(super) fn decided(from: &Order, to: &Order) {
    let Some(step) = from.status.step().filter(|_| !to.status.is_unresolved()) else { return };
    let began = match step {
        Step::Reserve => from.created_at,
        Step::Confirm | Step::Release => from.updated_at,
    };
    decision(step).record((to.updated_at - began).as_seconds_f64().max(0.0));
}

pub(super) fn mismatch(reservation: &'static str) -> Counter {
    counter!(MISMATCHES, "reservation" => reservation)
}

pub(crate) fn swept(result: &'static str) -> Counter {
    counter!(SWEPT, "result" => result)
}
