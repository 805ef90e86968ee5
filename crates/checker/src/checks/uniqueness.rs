//! Invariant 2: one order per (principal, key) and one live reservation per order, however often a client or the
//! order service repeats its request.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::entry::Recorded;
use crate::fold::{Fold, at};
use crate::report::{Rule, Tally, Violation};
use crate::{Side, Tables};
use journal::rule::NONE;

#[derive(Debug, Default)]
pub(crate) struct Uniqueness {
    /// The order that each (principal, key hash) created.
    created: HashMap<(Arc<str>, String), Uuid>,
    /// The reservation of each order that is `held` or `confirmed`.
    live: HashMap<Uuid, Uuid>,
}

impl Uniqueness {
    /// Checks one entry. Call it after the fold has applied the entry.
    pub(crate) fn entry(&mut self, fold: &Fold, side: Side, recorded: &Recorded, tally: &mut Tally) {
        let entry = &recorded.entry;
        let id = entry.aggregate_id;
        match &*entry.aggregate_kind {
            "order" if entry.from == NONE => {
                let Some(key) = &entry.key_hash else {
                    tally.check(Rule::OneOrderPerKey, false, || at(side, recorded, "an order without a key"));
                    return;
                };
                let first =
                    *self.created.entry((entry.principal.as_ref().into(), key.to_string())).or_insert(id);
                tally.check(Rule::OneOrderPerKey, first == id, || {
                    at(
                        side,
                        recorded,
                        format!("key {key} of {} had already created order {first}", entry.principal),
                    )
                });
            }
            "reservation" => {
                let Some(order) = fold.reservations.get(&id).and_then(|reservation| reservation.order) else {
                    return;
                };
                if matches!(&*entry.to, "held" | "confirmed") {
                    let live = *self.live.entry(order).or_insert(id);
                    tally.check(Rule::OneLiveReservation, live == id, || {
                        at(side, recorded, format!("order {order} has the live reservation {live} already"))
                    });
                } else if self.live.get(&order) == Some(&id) {
                    self.live.remove(&order);
                }
            }
            _ => {}
        }
    }

    /// Checks that the key rows name the same orders as the journal.
    pub(crate) fn finish(self, tables: &Tables, tally: &mut Tally) {
        for row in tables.keys.iter().filter(|row| row.service == Side::Order) {
            let key = (Arc::from(row.principal.as_str()), row.key_hash.clone());
            let (Some(created), Some(named)) = (self.created.get(&key), row.aggregate_id) else { continue };
            tally.check(Rule::OneOrderPerKey, *created == named, || {
                Violation::new(format!("key {} names it, yet created order {created}", row.key_hash))
                    .of(Side::Order, named)
            });
        }
    }
}
