//! The state that a journal adds up to, kept small: a check of a million orders has to fit in memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use journal::HybridTime;
use uuid::Uuid;

use crate::entry::Recorded;
use crate::facts::{Fact, Lines};
use crate::{Side, Violation};

/// The newest entry of an aggregate.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) kind: Arc<str>,
    pub(crate) state: Arc<str>,
    pub(crate) version: i64,
    pub(crate) hash: String,
}

/// What the other entries need to know of an entry: enough to be its effect.
#[derive(Debug, Clone)]
pub(crate) struct Brief {
    pub(crate) side: Side,
    pub(crate) aggregate: Uuid,
    pub(crate) version: i64,
    pub(crate) seq: i64,
    pub(crate) to: Arc<str>,
    pub(crate) hlc: HybridTime,
    pub(crate) correlation: Arc<str>,
    pub(crate) cause: Option<Uuid>,
}

/// What became of an order, as far as the other aggregates care.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) principal: Arc<str>,
    pub(crate) lines: Lines,
    /// The reservation that it said it would ask for.
    pub(crate) reservation: Option<Uuid>,
    /// The entry that confirmed it.
    pub(crate) confirmed_by: Option<Uuid>,
}

/// What became of a reservation.
#[derive(Debug, Clone)]
pub(crate) struct Reservation {
    pub(crate) order: Option<Uuid>,
    pub(crate) lines: Lines,
    pub(crate) confirmed_by: Option<Uuid>,
}

/// The stock of one SKU.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stock {
    pub(crate) aggregate: Uuid,
    pub(crate) received: i64,
    pub(crate) on_hand: i64,
    pub(crate) held: i64,
    pub(crate) shipped: i64,
}

/// Both journals, folded.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    pub(crate) heads: HashMap<(Side, Uuid), Head>,
    pub(crate) entries: HashMap<Uuid, Brief>,
    pub(crate) orders: HashMap<Uuid, Order>,
    pub(crate) reservations: HashMap<Uuid, Reservation>,
    pub(crate) stock: HashMap<Arc<str>, Stock>,
    names: HashSet<Arc<str>>,
}

impl Fold {
    /// One shared copy of a text that comes again and again.
    fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.names.get(text) {
            return known.clone();
        }
        let name: Arc<str> = text.into();
        self.names.insert(name.clone());
        name
    }

    fn lines(&mut self, lines: Vec<(String, i64)>) -> Lines {
        let mut lines: Vec<_> =
            lines.into_iter().map(|(sku, quantity)| (self.name(&sku), quantity)).collect();
        lines.sort();
        lines.into()
    }

    /// The head of an aggregate before the next entry is applied.
    pub(crate) fn head(&self, side: Side, aggregate: Uuid) -> Option<&Head> {
        self.heads.get(&(side, aggregate))
    }

    /// Applies an entry. The SKUs whose stock it moved are returned.
    pub(crate) fn apply(&mut self, side: Side, recorded: &Recorded, fact: Fact) -> Moved {
        let entry = &recorded.entry;
        let state = self.name(&entry.to);
        let brief = Brief {
            side,
            aggregate: entry.aggregate_id,
            version: entry.version,
            seq: recorded.seq,
            to: state.clone(),
            hlc: entry.hlc,
            correlation: self.name(&entry.correlation_id),
            cause: entry.causation_id,
        };
        self.entries.insert(entry.id, brief);
        let kind = self.name(&entry.aggregate_kind);
        let head = Head { kind, state, version: entry.version, hash: recorded.hash.clone() };
        self.heads.insert((side, entry.aggregate_id), head);
        match fact {
            Fact::Received { sku, quantity } => {
                let sku = self.name(&sku);
                let stock = self.stock.entry(sku.clone()).or_default();
                stock.aggregate = entry.aggregate_id;
                stock.received += quantity;
                stock.on_hand += quantity;
                return Moved { lines: [(sku, quantity)].into(), unknown: Vec::new() };
            }
            Fact::Ordered { lines, reservation } => {
                let (lines, principal) = (self.lines(lines), self.name(&entry.principal));
                self.orders
                    .insert(entry.aggregate_id, Order { principal, lines, reservation, confirmed_by: None });
            }
            Fact::Reserved { order, lines } => {
                let lines = self.lines(lines);
                self.reservations
                    .insert(entry.aggregate_id, Reservation { order, lines, confirmed_by: None });
            }
            Fact::Nothing => {}
        }
        match (&*entry.aggregate_kind, &*entry.from, &*entry.to) {
            ("order", _, "confirmed") => {
                if let Some(order) = self.orders.get_mut(&entry.aggregate_id) {
                    order.confirmed_by = Some(entry.id);
                }
                Moved::default()
            }
            ("reservation", "none", "held") => self.move_lines(entry.aggregate_id, 1, 0),
            ("reservation", "held", "confirmed") => {
                if let Some(reservation) = self.reservations.get_mut(&entry.aggregate_id) {
                    reservation.confirmed_by = Some(entry.id);
                }
                self.move_lines(entry.aggregate_id, -1, 1)
            }
            ("reservation", "held", _) => self.move_lines(entry.aggregate_id, -1, 0),
            _ => Moved::default(),
        }
    }

    /// Moves every line of a reservation into (1) or out of (-1) `held`, and out to the customer (1) or not (0).
    fn move_lines(&mut self, reservation: Uuid, held: i64, shipped: i64) -> Moved {
        let Some(reservation) = self.reservations.get(&reservation) else { return Moved::default() };
        let lines = reservation.lines.clone();
        let mut unknown = Vec::new();
        for (sku, quantity) in lines.iter() {
            if let Some(stock) = self.stock.get_mut(sku) {
                stock.held += held * quantity;
                stock.on_hand -= shipped * quantity;
                stock.shipped += shipped * quantity;
            } else {
                unknown.push(sku.clone());
            }
        }
        Moved { lines, unknown }
    }
}

/// Whose stock an entry moved.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) lines: Lines,
    /// SKUs that no entry created.
    pub(crate) unknown: Vec<Arc<str>>,
}

impl Default for Moved {
    fn default() -> Self {
        Self { lines: [].into(), unknown: Vec::new() }
    }
}

/// A violation that `recorded` is, with its place.
pub(crate) fn at(side: Side, recorded: &Recorded, what: impl Into<String>) -> Violation {
    let mut violation = Violation::new(what).of(side, recorded.entry.aggregate_id);
    violation.version = Some(recorded.entry.version);
    violation.seq = Some(recorded.seq);
    violation
}
