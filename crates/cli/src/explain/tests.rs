//! A history for tests.

use checker::{Recorded, Side};
use journal::Entry;
use serde_json::json;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

pub(super) const BEGAN: OffsetDateTime = datetime!(2026-11-21 12:00:00 UTC);
pub(super) const ORDER: Uuid = Uuid::from_u128(0x0a);
pub(super) const RESERVATION: Uuid = Uuid::from_u128(0x0b);

/// The parts of an entry on which the story depends.
pub(super) struct SampleEntry {
    pub(super) id: u128,
    pub(super) side: Side,
    pub(super) version: i64,
    pub(super) step: (&'static str, &'static str, &'static str),
    pub(super) cause: Option<u128>,
    /// Milliseconds after the beginning, by its own service's clock.
    pub(super) at: i64,
}

impl SampleEntry {
    pub(super) fn recorded(&self) -> (Side, Recorded) {
        let (command, from, to) = self.step;
        let (kind, aggregate) = match self.side {
            Side::Order => ("order", ORDER),
            Side::Inventory => ("reservation", RESERVATION),
        };
        let at = BEGAN + Duration::milliseconds(self.at);
        let millis = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap();
        let entry: Entry = serde_json::from_value(json!({
            "id": Uuid::from_u128(self.id), "service": self.side.as_str(), "aggregate_kind": kind,
            "aggregate_id": aggregate, "version": self.version, "from": from, "to": to,
            "command": command, "principal": "client", "key_hash": null, "correlation_id": "c-1",
            "causation_id": self.cause.map(Uuid::from_u128), "trace_id": null,
            "hlc": format!("{:016x}", millis << 16), "at": at.format(&time::format_description::well_known::Rfc3339).unwrap(),
            "attempt": 1, "rule": format!("{}.{command}@1", self.side), "inputs": {}, "alternatives": [],
            "evidence": {}, "revision": "r", "config_hash": "c", "payload_hash": null, "prev_hash": null,
        }))
        .unwrap();
        let body = entry.to_bytes();
        (self.side, Recorded { seq: self.version, hash: "h".to_owned(), body, entry })
    }
}

/// A history: inventory reserved, its reply was lost, and the sweep asked again four seconds later.
pub(super) fn lost_reply() -> Vec<SampleEntry> {
    use Side::{Inventory, Order};
    let history = [
        (1, Order, 1, ("place", "none", "reserving"), None, 0),
        (2, Inventory, 1, ("reserve", "none", "held"), Some(1), 6),
        (3, Order, 2, ("reserve", "reserving", "reserve_unknown"), Some(1), 1_040),
        (4, Order, 3, ("reserve", "reserve_unknown", "reserved"), Some(2), 5_350),
        (5, Order, 4, ("confirm", "reserved", "confirming"), None, 5_900),
        (6, Inventory, 2, ("confirm", "held", "confirmed"), Some(5), 5_904),
        (7, Order, 5, ("confirm", "confirming", "confirmed"), Some(6), 5_909),
    ];
    let entry = |(id, side, version, step, cause, at)| SampleEntry { id, side, version, step, cause, at };
    history.into_iter().map(entry).collect()
}
