//! Metric names. Rules and dashboards quote them, so they change only together with those.

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Events that were recorded.
pub const EVENTS: &str = "mainstay_evidence_events_total";
/// Events that were dropped, by `reason`: `queue-full` (the disk is slower than the events), `disk` (the disk refused
/// them).
pub const DROPPED: &str = "mainstay_evidence_dropped_total";
/// Segments that were sealed.
pub const SEALS: &str = "mainstay_evidence_seals_total";
/// Failed attempts to seal a segment or to remove an expired one. They are repeated.
pub const FAILURES: &str = "mainstay_evidence_upkeep_failures_total";
/// Bytes on disk by `tier`: `hot`, `sealed`, `manifest`.
pub const BYTES: &str = "mainstay_evidence_bytes";

/// Reasons of [`DROPPED`].
pub(crate) const QUEUE_FULL: &str = "queue-full";
pub(crate) const DISK: &str = "disk";

/// Registers help texts, and every series at zero.
pub(crate) fn describe() {
    describe_counter!(EVENTS, "Events that were recorded");
    describe_counter!(DROPPED, "Events that were dropped, by reason");
    describe_counter!(SEALS, "Segments of events that were sealed");
    describe_counter!(FAILURES, "Failed attempts to seal a segment or to remove an expired one");
    describe_gauge!(BYTES, "Bytes of events on disk, by tier");
    for name in [EVENTS, SEALS, FAILURES] {
        counter!(name).increment(0);
    }
    for reason in [QUEUE_FULL, DISK] {
        counter!(DROPPED, "reason" => reason).increment(0);
    }
    for tier in ["hot", "sealed", "manifest"] {
        gauge!(BYTES, "tier" => tier).set(0.0);
    }
}
