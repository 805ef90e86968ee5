//! Metric names. Runbooks, alerts and dashboards quote them, so they change only together with those.

use super::context::Complaints;
pub use crate::limit::LIMIT;

/// Requests that were answered or cancelled, by `route`, `method`, `status` (`none` when there was no reply) and
/// `outcome`.
pub const REQUESTS: &str = "mainstay_server_requests_total";
/// Seconds from arrival to the end of the reply's body, by `route`, `method` and `status`. Cancelled requests count.
pub const DURATION: &str = "mainstay_server_request_duration_seconds";
/// Requests between arrival and the end of the reply's body.
pub const IN_FLIGHT: &str = "mainstay_server_in_flight";
/// Requests whose caller left before the reply was complete.
pub const CANCELLED: &str = "mainstay_server_cancelled_total";
/// Handlers that panicked.
pub const PANICS: &str = "mainstay_server_panics_total";
/// Requests refused before the handler, by `reason`: `queue-full`, `displaced`, `standing`, `expired` (all from the
/// queue), `deadline` (expired on arrival), `rate-limit`, `body-limit`, `body-timeout`, `body-share` (the principal
/// has its maximum of bodies being read), `bodies-full` (all principals together have the maximum), `draining`.
pub const SHED: &str = "mainstay_server_shed_total";
/// Bodies of unannounced length that were cut off at the limit while they were read.
pub const BODY_CUT_OFF: &str = "mainstay_server_body_cut_off_total";
/// Bodies that are being read, before a permit is taken.
pub const BODIES_READING: &str = "mainstay_server_bodies_reading";
/// Requests that claimed a higher `X-Priority` than they may.
pub const PRIORITY_LOWERED: &str = "mainstay_server_priority_lowered_total";
/// Requests whose handler had not answered a grace period after the deadline.
pub const OVERRUN: &str = "mainstay_server_deadline_overrun_total";
/// Seconds that requests waited in the queue, whether they were admitted or not. Requests admitted at once are not
/// counted.
pub const QUEUE: &str = "mainstay_server_queue_seconds";
/// Correlation ids that were not acceptable.
pub const CORRELATION_REPLACED: &str = "mainstay_server_correlation_replaced_total";
/// Headers that were present and could not be read, by `header`. They count as absent.
pub const HEADER_IGNORED: &str = "mainstay_server_header_ignored_total";

/// The values of the label `reason` of [`SHED`].
const SHED_REASONS: [&str; 11] = [
    "queue-full",
    "displaced",
    "standing",
    "expired",
    "deadline",
    "rate-limit",
    "body-limit",
    "body-timeout",
    "body-share",
    "bodies-full",
    "draining",
];

/// Starts every series at zero whose labels are known. A series that begins above zero has no increase, so a rule would
/// miss the first events of a process. [`super::ServerStack::expect`] does the same for requests.
fn start_at_zero() {
    for name in [CANCELLED, PANICS, BODY_CUT_OFF, PRIORITY_LOWERED, OVERRUN, CORRELATION_REPLACED] {
        crate::metric::counter!(name).increment(0);
    }
    for reason in SHED_REASONS {
        crate::metric::counter!(SHED, "reason" => reason).increment(0);
    }
    for header in Complaints::OF {
        crate::metric::counter!(HEADER_IGNORED, "header" => header.to_string()).increment(0);
    }
}

/// Registers help texts and units with the installed recorder, and starts series at zero. [`super::stack`] calls it.
pub(super) fn describe() {
    use crate::metric::{Unit, describe_counter, describe_gauge, describe_histogram};
    start_at_zero();
    describe_counter!(REQUESTS, "Requests by route, method, status and outcome");
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "From arrival to the end of the reply, cancelled ones included"
    );
    describe_gauge!(IN_FLIGHT, "Requests between arrival and the end of the reply");
    describe_counter!(CANCELLED, "Requests whose caller left before the reply was complete");
    describe_counter!(PANICS, "Handlers that panicked");
    describe_counter!(SHED, "Requests refused before the handler, by reason");
    describe_counter!(BODY_CUT_OFF, "Bodies of unannounced length cut off at the limit");
    describe_gauge!(BODIES_READING, "Request bodies that are being read, before a permit is taken");
    describe_counter!(PRIORITY_LOWERED, "Requests that claimed a higher priority than they may");
    describe_counter!(OVERRUN, "Requests whose handler had not answered shortly after the deadline");
    describe_histogram!(QUEUE, Unit::Seconds, "Time spent waiting for a permit");
    describe_gauge!(LIMIT, "Requests allowed at once");
    describe_counter!(CORRELATION_REPLACED, "Correlation ids that were not acceptable");
    describe_counter!(HEADER_IGNORED, "Headers that could not be read and count as absent");
}
