//! Whether the lines can be promised.

use inventory_api::ShortLine;
use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::domain::reservation::{ReservationEvent, ReservationState, transition};
use crate::domain::stock::{HoldSeconds, Quantity, Sku, Stock};

/// All lines or none: one unknown SKU or one short line refuses the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    // In the order of their names, as canonical JSON has them, so that none has to be moved.
    /// For how long.
    pub hold_seconds: HoldSeconds,
    /// What is asked for, and what there was of it.
    pub lines: Vec<RequestedLine>,
    /// The database's clock, read after the locks.
    #[serde(with = "time::serde::rfc3339")]
    pub now: OffsetDateTime,
    /// For whom.
    pub order_id: Uuid,
}

/// A line and what the decision read of its item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedLine {
    /// How many.
    pub quantity: Quantity,
    /// Of what.
    pub sku: Sku,
    /// Null when no such item is known.
    pub stock: Option<Stock>,
}

impl Reserve {
    /// When the hold ends.
    pub fn expires_at(&self) -> OffsetDateTime {
        self.now + Duration::seconds(self.hold_seconds.get())
    }

    /// SKUs that no item has.
    pub fn unknown_skus(&self) -> Vec<String> {
        self.lines.iter().filter(|line| line.stock.is_none()).map(|line| line.sku.to_string()).collect()
    }

    /// Lines that ask for more than there is.
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

/// The first ten and how many more: a thousand reasons would only repeat the inputs.
fn some(reasons: &[String]) -> String {
    const SHOWN: usize = 10;
    match reasons.len().checked_sub(SHOWN) {
        None | Some(0) => reasons.join("; "),
        Some(more) => format!("{}; and {more} more", reasons[..SHOWN].join("; ")),
    }
}
