//! Invariant 1: at every prefix of the journal, no stock is lost, invented or promised twice.

use std::collections::HashMap;

use crate::entry::Recorded;
use crate::fold::{Fold, Moved, at};
use crate::known::Known;
use crate::report::{Rule, Tally, Violation};
use crate::{Contract, Observed, Side, Tables, facts};

/// Checks one entry before it is applied: the stock that its decision read equals the sum of the journal so far. So
/// no two decisions can have taken the same pieces.
pub(crate) fn read(fold: &Fold, known: &Known, side: Side, recorded: &Recorded, tally: &mut Tally) {
    for read in facts::stock_read(&recorded.entry) {
        let stood = fold.stock.get(read.sku);
        let same = stood.is_some_and(|stock| (stock.on_hand, stock.held) == (read.on_hand, read.held));
        let depends = known.unknown.is_some() || fold.doubts.sku(read.sku);
        tally.judge(Rule::StockReadAsItStood, same, depends, || {
            let what = format!("SKU {:?} was read as on_hand {}, held {}", read.sku, read.on_hand, read.held);
            let stood = stood.map(|stock| (stock.on_hand, stock.held));
            at(side, recorded, format!("{what}; it stood at {stood:?}"))
        });
    }
}

/// Checks one entry after it is applied: the SKUs that it moved are within their bounds.
pub(crate) fn entry(fold: &Fold, side: Side, recorded: &Recorded, moved: &Moved, tally: &mut Tally) {
    for (sku, quantity) in moved.lines.iter() {
        let Some(stock) = fold.stock.get(sku) else { continue };
        let (held, on_hand) = (stock.held, stock.on_hand);
        tally.judge(Rule::StockWithinBounds, 0 <= held && held <= on_hand, fold.doubts.sku(sku), || {
            at(
                side,
                recorded,
                format!("SKU {sku:?} has held {held} and on_hand {on_hand} after a line of {quantity}"),
            )
        });
    }
    for sku in &moved.unknown {
        tally.judge(Rule::StockConserved, false, fold.doubts.sku(sku), || {
            at(side, recorded, format!("SKU {sku:?} was never created, yet stock of it moved"))
        });
    }
}

/// Checks the item table: stock on hand is the receipts less the shipments, and stock held is the sum of the held
/// reservations.
pub(crate) fn finish(
    contract: &Contract<'_>,
    fold: &Fold,
    observed: &Observed,
    tables: &Tables,
    exact: bool,
    tally: &mut Tally,
) {
    let mut promised: HashMap<&str, i64> = HashMap::new();
    // A row that cannot be read may promise stock of any SKU.
    let mut is_whole = !observed.unread.iter().any(|row| row.service == Side::Inventory);
    for row in &tables.reservations {
        is_whole &= row.lines.is_some() && contract.knows("reservation", &row.status);
        for line in row.lines.iter().flatten().filter(|_| row.status == "held") {
            let promised = promised.entry(&line.sku).or_default();
            *promised = promised.saturating_add(line.quantity);
        }
    }
    for row in &tables.items {
        if !exact {
            tally.defer(Rule::StockConserved);
            continue;
        }
        let stock = fold.stock.get(row.sku.as_str()).cloned().unwrap_or_default();
        let promised = promised.get(row.sku.as_str()).copied().unwrap_or(0);
        let holds = row.on_hand.saturating_add(stock.shipped) == stock.received
            && row.held == promised
            && row.held == stock.held;
        let depends = !is_whole || fold.doubts.sku(&row.sku);
        tally.judge(Rule::StockConserved, holds, depends, || {
            Violation::new(format!(
                "SKU {:?}: received {} is not on_hand {} + shipped {}, or held {} is not the {promised} of the \
                 held reservations and the {} of the journal",
                row.sku, stock.received, row.on_hand, stock.shipped, row.held, stock.held
            ))
            .of(Side::Inventory, stock.aggregate)
        });
    }
}
