//! The decision whether the lines of an order are held.

use inventory_api::ShortLine;
use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::domain::reservation::{ReservationEvent, ReservationState, transition};
use crate::domain::stock::{HoldSeconds, Quantity, Sku, Stock};

/// Decides a reserve: all lines or none. One unknown SKU or one short line refuses the whole reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    // The fields stand in the order of their names, as canonical JSON has them, so that the serializer moves none.
    /// Length of the hold, in seconds.
    pub hold_seconds: HoldSeconds,
    /// Requested lines, with the stock of their items.
    pub lines: Vec<RequestedLine>,
    /// Time of the database's clock, read after the locks.
    #[serde(with = "time::serde::rfc3339")]
    pub now: OffsetDateTime,
    /// Id of the order.
    pub order_id: Uuid,
}

/// A requested line, with the stock of its item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedLine {
    /// Number of pieces.
    pub quantity: Quantity,
    /// SKU of the item.
    pub sku: Sku,
    /// Stock of the item; null when there is no such item.
    pub stock: Option<Stock>,
}

impl Reserve {
    /// End of the hold.
    pub fn expires_at(&self) -> OffsetDateTime {
        self.now + Duration::seconds(self.hold_seconds.get())
    }

    /// SKUs of the lines for which there is no item.
    pub fn unknown_skus(&self) -> Vec<String> {
        self.lines.iter().filter(|line| line.stock.is_none()).map(|line| line.sku.to_string()).collect()
    }

    /// Lines that ask for more than is available.
    pub fn short_lines(&self) -> Vec<ShortLine> {
        let short = |line: &RequestedLine| {
            let available = line.stock?.available();
            let requested = line.quantity.get();
            (available < requested).then(|| ShortLine { sku: line.sku.to_string(), requested, available })
        };
        self.lines.iter().filter_map(short).collect()
    }
}

impl Rule for Reserve {
    const NAME: &'static str = "inventory.reserve@1";
    type State = ReservationState;

    fn decide(&self) -> Verdict<ReservationState> {
        let (unknown, short) = (self.unknown_skus(), self.short_lines());
        let (event, other, because) = if !unknown.is_empty() {
            let because = format!("no such item: {}", some(&unknown));
            (ReservationEvent::Refused, ReservationState::Held, because)
        } else if !short.is_empty() {
            let short: Vec<_> = short
                .iter()
                .map(|line| {
                    format!("{}: {} requested > {} available", line.sku, line.requested, line.available)
                })
                .collect();
            (ReservationEvent::Refused, ReservationState::Held, some(&short))
        } else {
            let because = "requested <= available on every line".to_owned();
            (ReservationEvent::Held, ReservationState::Refused, because)
        };
        let to =
            transition(None, event).expect("both events are legal for a reservation that is not there yet");
        Verdict { to, alternatives: vec![Alternative::new(other, because)] }
    }
}

/// The first ten reasons and the number of the others. A thousand reasons would only repeat the inputs.
fn some(reasons: &[String]) -> String {
    const SHOWN: usize = 10;
    match reasons.len().checked_sub(SHOWN) {
        None | Some(0) => reasons.join("; "),
        Some(more) => format!("{}; and {more} more", reasons[..SHOWN].join("; ")),
    }
}
