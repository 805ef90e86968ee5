//! The decision whether the lines of an order are held.

use std::collections::BTreeMap;

use inventory_api::ShortLine;
use journal::{Alternative, Rule, Verdict};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::Decision;
use crate::domain::outcome::{Outcome, Refusal};
use crate::domain::status::{Event, Illegal, Reservation, Status};
use crate::domain::stock::{HoldSeconds, Lines, Quantity, Sku, Stock};

/// Decides a reserve: all lines or none. One unknown SKU or one short line refuses the whole reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
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

    /// The refusal of a reserve that this rule refused.
    fn refusal(&self, id: Uuid) -> Refusal {
        let (order_id, skus) = (self.order_id, self.unknown_skus());
        if skus.is_empty() {
            Refusal::InsufficientStock { id, order_id, short_lines: self.short_lines() }
        } else {
            Refusal::UnknownSku { id, order_id, skus }
        }
    }
}

/// A valid request to hold lines for an order.
#[derive(Debug, Clone)]
pub struct NewReservation {
    /// Id of the reservation, which the caller chooses.
    pub id: Uuid,
    /// Id of the order.
    pub order_id: Uuid,
    /// Lines to hold: SKU and quantity.
    pub lines: Lines,
    /// Length of the hold.
    pub hold_seconds: HoldSeconds,
}

impl NewReservation {
    /// SKUs of the lines.
    pub fn skus(&self) -> impl Iterator<Item = &str> {
        self.lines.as_slice().iter().map(|line| line.sku.as_str())
    }
}

/// Decides a reserve at `now`: the rule, the new reservation, and the answer. Held lines are taken out of `stock`, so that the next reserve of a batch cannot have them.
pub fn reserve(
    new: &NewReservation,
    now: OffsetDateTime,
    stock: &mut BTreeMap<String, Stock>,
) -> (Reserve, Reservation, Outcome) {
    let lines = new.lines.as_slice().iter().map(|line| RequestedLine {
        stock: stock.get(line.sku.as_str()).copied(),
        sku: line.sku.clone(),
        quantity: line.quantity,
    });
    let (order_id, hold_seconds) = (new.order_id, new.hold_seconds);
    let rule = Reserve { order_id, lines: lines.collect(), hold_seconds, now };
    let status = rule.decide().to;
    let is_held = status == Status::Held;
    let after = Reservation {
        id: new.id,
        order_id: Some(order_id),
        status,
        lines: new.lines.shared(),
        hold_seconds: Some(hold_seconds.get()),
        expires_at: is_held.then(|| now + Duration::seconds(hold_seconds.get())),
        version: 1,
    };
    let outcome = if is_held {
        for line in new.lines.as_slice() {
            if let Some(stock) = stock.get_mut(line.sku.as_str()) {
                stock.held += line.quantity.get();
            }
        }
        Outcome::Held(after.clone())
    } else {
        Outcome::Refused(rule.refusal(new.id))
    };
    (rule, after, outcome)
}

/// Decides a reserve of a reservation that exists: by a request under another key, or because its release came first.
/// `refused_by` is the rule that refused it, if it is refused.
pub fn repeat_reserve(
    new: &NewReservation,
    known: &Reservation,
    refused_by: Option<&Reserve>,
) -> Decision<Reserve, Reservation> {
    let is_same = known.order_id == Some(new.order_id)
        && *known.lines == *new.lines.as_slice()
        && known.hold_seconds == Some(new.hold_seconds.get());
    Decision::Unchanged(match (known.status, refused_by) {
        (Status::Held, _) if !is_same => return Decision::NotYet(Refusal::HeldOtherwise { id: known.id }),
        (Status::Held, _) => Outcome::Present(known.clone()),
        (Status::Voided, _) => Outcome::Refused(Refusal::ReservationVoided { id: known.id }),
        (Status::Refused, Some(rule)) => Outcome::Refused(rule.refusal(known.id)),
        (Status::Refused | Status::Confirmed | Status::Released | Status::Expired, _) => {
            Outcome::Refused(Refusal::IllegalTransition(Illegal::event(Some(known.status), Event::Held)))
        }
    })
}

impl Rule for Reserve {
    const NAME: &'static str = "inventory.reserve@1";
    type State = Status;

    fn decide(&self) -> Verdict<Status> {
        let (unknown, short) = (self.unknown_skus(), self.short_lines());
        let (event, other, because) = if !unknown.is_empty() {
            let because = format!("no such item: {}", some(&unknown));
            (Event::Refused, Status::Held, because)
        } else if !short.is_empty() {
            let short: Vec<_> = short
                .iter()
                .map(|line| {
                    format!("{}: {} requested > {} available", line.sku, line.requested, line.available)
                })
                .collect();
            (Event::Refused, Status::Held, some(&short))
        } else {
            let because = "requested <= available on every line".to_owned();
            (Event::Held, Status::Refused, because)
        };
        let to = Status::after(None, event)
            .expect("both events are legal for a reservation that is not there yet");
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
