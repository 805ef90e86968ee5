//! The fold of both journals: the state that their entries add up to. It is kept small, because a check of a million
//! orders has to fit in memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use journal::{Entry, HybridTime};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::entry::{Recorded, Unreadable};
use crate::facts::{Fact, Lines};
use crate::{Side, Violation};

/// The last entry of an aggregate.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// `None` after an entry that cannot be read.
    pub(crate) kind: Option<Arc<str>>,
    /// `None` after an entry that cannot be read.
    pub(crate) state: Option<Arc<str>>,
    pub(crate) version: i64,
    pub(crate) hash: String,
}

/// The part of an entry that the checks of its effects need.
#[derive(Debug, Clone)]
pub(crate) struct Brief {
    pub(crate) side: Side,
    pub(crate) aggregate: Uuid,
    pub(crate) version: i64,
    pub(crate) seq: i64,
    pub(crate) to: Arc<str>,
    pub(crate) hlc: HybridTime,
    /// Milliseconds since 1970 by the service's wall clock.
    pub(crate) at: i64,
    pub(crate) correlation: Arc<str>,
    pub(crate) cause: Option<Uuid>,
}

/// The facts of an order that the checks of other aggregates need.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) principal: Arc<str>,
    pub(crate) lines: Lines,
    /// The reservation id that the order's first entry names.
    pub(crate) reservation: Option<Uuid>,
    /// The entry that confirmed the order.
    pub(crate) confirmed_by: Option<Uuid>,
}

/// The facts of a reservation.
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

/// Facts that unreadable entries leave open. A fact about these is judged only where it holds all the same.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// Unreadable entries by their hash, which the next entry of their aggregate names, with the version where it is
    /// known.
    lost: HashMap<(Side, String), Option<i64>>,
    /// Ids of unreadable entries.
    ids: HashSet<Uuid>,
    /// Services whose journals have unreadable entries with unknown ids.
    without_id: HashSet<Side>,
    /// Aggregates with an entry that this release does not understand.
    aggregates: HashSet<(Side, Uuid)>,
    /// SKUs whose stock such an entry may have moved.
    skus: HashSet<Arc<str>>,
    /// True if an unreadable entry may have moved the stock of any SKU.
    any_sku: bool,
}

impl Doubts {
    /// Returns whether either journal may have an unreadable entry with this id.
    pub(crate) fn cause(&self, id: Uuid) -> bool {
        self.ids.contains(&id) || !self.without_id.is_empty()
    }

    /// Returns whether the known facts of an aggregate may be incomplete.
    pub(crate) fn aggregate(&self, side: Side, id: Uuid) -> bool {
        self.aggregates.contains(&(side, id)) || self.without_id.contains(&side)
    }

    /// Returns whether an entry that is not understood may have moved the stock of a SKU.
    pub(crate) fn sku(&self, sku: &str) -> bool {
        let item = || Uuid::new_v5(&journal::ITEM_NAMESPACE, sku.as_bytes());
        self.any_sku || self.skus.contains(sku) || self.aggregates.contains(&(Side::Inventory, item()))
    }

    /// Returns whether the journal has an unreadable entry with this hash.
    pub(crate) fn is_lost(&self, side: Side, hash: &str) -> bool {
        self.lost.contains_key(&(side, hash.to_owned()))
    }
}

/// The fold of both journals.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    pub(crate) heads: HashMap<(Side, Uuid), Head>,
    pub(crate) entries: HashMap<Uuid, Brief>,
    pub(crate) orders: HashMap<Uuid, Order>,
    pub(crate) reservations: HashMap<Uuid, Reservation>,
    pub(crate) stock: HashMap<Arc<str>, Stock>,
    pub(crate) doubts: Doubts,
    names: HashSet<Arc<str>>,
}

impl Fold {
    /// Returns the one shared copy of a text that many entries repeat.
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

    /// Returns the head of an aggregate before the next entry is applied.
    pub(crate) fn head(&self, side: Side, aggregate: Uuid) -> Option<&Head> {
        self.heads.get(&(side, aggregate))
    }

    /// Records an entry that cannot be read, as far as it names its aggregate.
    pub(crate) fn lose(&mut self, side: Side, row: &Unreadable) {
        let before = row.aggregate.and_then(|id| self.heads.get(&(side, id)));
        let version = row.version.or(before.map(|head| head.version.saturating_add(1)));
        match row.id {
            Some(id) => _ = self.doubts.ids.insert(id),
            None => _ = self.doubts.without_id.insert(side),
        }
        self.doubts.lost.insert((side, row.hash.clone()), version);
        let Some(id) = row.aggregate else {
            self.doubts.any_sku |= side == Side::Inventory;
            return;
        };
        let head = Head { kind: None, state: None, version: version.unwrap_or(1), hash: row.hash.clone() };
        self.heads.insert((side, id), head);
        self.doubt(side, id, row.kind.as_deref());
    }

    /// Marks the facts that an entry which is not understood may have changed.
    pub(crate) fn doubt(&mut self, side: Side, id: Uuid, kind: Option<&str>) {
        self.doubts.aggregates.insert((side, id));
        if side == Side::Order || kind == Some("item") {
            return;
        }
        match self.reservations.get(&id) {
            Some(reservation) => {
                self.doubts.skus.extend(reservation.lines.iter().map(|(sku, _)| sku.clone()));
            }
            None => self.doubts.any_sku = true,
        }
    }

    /// Finds the head that an entry is chained to, where the head is an unreadable entry that did not name its
    /// aggregate.
    pub(crate) fn find_lost(&mut self, side: Side, entry: &Entry<'_>) {
        let Some(hash) = entry.prev_hash.as_deref() else { return };
        let before = self.heads.get(&(side, entry.aggregate_id));
        if before.is_some_and(|head| head.hash == hash) {
            return;
        }
        let Some(version) = self.doubts.lost.get(&(side, hash.to_owned())) else { return };
        let version = version.unwrap_or(entry.version.saturating_sub(1));
        let head = Head { kind: None, state: None, version, hash: hash.to_owned() };
        self.heads.insert((side, entry.aggregate_id), head);
        self.doubt(side, entry.aggregate_id, Some(&entry.aggregate_kind));
    }

    /// Applies an entry and returns the SKUs whose stock it moved.
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
            at: millis(entry.at),
            correlation: self.name(&entry.correlation_id),
            cause: entry.causation_id,
        };
        self.entries.insert(entry.id, brief);
        let kind = self.name(&entry.aggregate_kind);
        let head = Head {
            kind: Some(kind),
            state: Some(state),
            version: entry.version,
            hash: recorded.hash.clone(),
        };
        self.heads.insert((side, entry.aggregate_id), head);
        match fact {
            Fact::Received { sku, quantity } => {
                let sku = self.name(&sku);
                let stock = self.stock.entry(sku.clone()).or_default();
                stock.aggregate = entry.aggregate_id;
                stock.received = stock.received.saturating_add(quantity);
                stock.on_hand = stock.on_hand.saturating_add(quantity);
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
                // Quantities come from the data. An absurd quantity breaks a bound; it must not end the check.
                stock.held = stock.held.saturating_add(quantity.saturating_mul(held));
                stock.on_hand = stock.on_hand.saturating_sub(quantity.saturating_mul(shipped));
                stock.shipped = stock.shipped.saturating_add(quantity.saturating_mul(shipped));
            } else {
                unknown.push(sku.clone());
            }
        }
        Moved { lines, unknown }
    }
}

/// The lines whose stock an entry moved.
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

/// Converts a time to milliseconds since 1970.
pub(crate) fn millis(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// A violation at the place of `recorded`.
pub(crate) fn at(side: Side, recorded: &Recorded, what: impl Into<String>) -> Violation {
    let mut violation = Violation::new(what).of(side, recorded.entry.aggregate_id);
    violation.version = Some(recorded.entry.version);
    violation.seq = Some(recorded.seq);
    violation
}
