//! Invariant 6: the tables say what the journal adds up to, no more, no less.

use std::collections::HashSet;

use uuid::Uuid;

use crate::facts::Lines;
use crate::fold::Fold;
use crate::report::{Rule, Tally, Violation};
use crate::{Line, Side, Tables};

/// The head of a row, whichever table it is in.
struct Row<'a> {
    side: Side,
    kind: &'static str,
    id: Uuid,
    version: i64,
    head_hash: &'a str,
    /// An item has no status column.
    status: Option<&'a str>,
}

pub(crate) fn finish(fold: &Fold, tables: &Tables, exact: bool, tally: &mut Tally) {
    let mut rows = HashSet::new();
    for order in &tables.orders {
        rows.insert((Side::Order, order.id));
        let row = Row {
            side: Side::Order,
            kind: "order",
            id: order.id,
            version: order.version,
            head_hash: &order.head_hash,
            status: Some(&order.status),
        };
        head(fold, &row, exact, tally);
        if let Some(known) = fold.orders.get(&order.id) {
            let same = same_lines(&known.lines, &order.lines) && *known.principal == *order.principal;
            tally.check(Rule::TablesEqualFold, same, || {
                wrong(&row, format!("row has {} and {:?}, journal {known:?}", order.principal, order.lines))
            });
        }
    }
    for reservation in &tables.reservations {
        rows.insert((Side::Inventory, reservation.id));
        let row = Row {
            side: Side::Inventory,
            kind: "reservation",
            id: reservation.id,
            version: reservation.version,
            head_hash: &reservation.head_hash,
            status: Some(&reservation.status),
        };
        head(fold, &row, exact, tally);
        if let Some(known) = fold.reservations.get(&reservation.id) {
            let same = same_lines(&known.lines, &reservation.lines) && known.order == reservation.order_id;
            tally.check(Rule::TablesEqualFold, same, || {
                let row_has = format!("row has {:?} and {:?}", reservation.order_id, reservation.lines);
                wrong(&row, format!("{row_has}, journal {known:?}"))
            });
        }
    }
    for item in &tables.items {
        let Some(stock) = fold.stock.get(item.sku.as_str()) else {
            tally.check(Rule::TablesEqualFold, false, || {
                Violation::new(format!("item {:?} is in the table, not in the journal", item.sku))
            });
            continue;
        };
        rows.insert((Side::Inventory, stock.aggregate));
        let row = Row {
            side: Side::Inventory,
            kind: "item",
            id: stock.aggregate,
            version: item.version,
            head_hash: &item.head_hash,
            status: None,
        };
        head(fold, &row, exact, tally);
        if exact {
            tally.check(
                Rule::TablesEqualFold,
                item.on_hand == stock.on_hand && item.held == stock.held,
                || {
                    let row_has = format!("row has on_hand {} and held {}", item.on_hand, item.held);
                    wrong(&row, format!("SKU {:?}: {row_has}, journal {stock:?}", item.sku))
                },
            );
        } else {
            tally.defer(Rule::TablesEqualFold);
        }
    }
    for ((side, id), head) in &fold.heads {
        if rows.contains(&(*side, *id)) {
            continue;
        }
        if exact {
            tally.check(Rule::TablesEqualFold, false, || {
                Violation::new(format!("{} is in the journal as {}, not in the table", head.kind, head.state))
                    .of(*side, *id)
            });
        } else {
            tally.defer(Rule::TablesEqualFold);
        }
    }
}

/// The row is its aggregate's newest entry.
fn head(fold: &Fold, row: &Row<'_>, exact: bool, tally: &mut Tally) {
    let Some(head) = fold.head(row.side, row.id) else {
        tally.check(Rule::TablesEqualFold, false, || wrong(row, "is in the table, not in the journal"));
        return;
    };
    if !exact && row.version < head.version {
        tally.defer(Rule::TablesEqualFold);
        return;
    }
    let same = row.version == head.version
        && row.status.is_none_or(|status| status == &*head.state)
        && row.head_hash == head.hash
        && row.kind == &*head.kind;
    tally.check(Rule::TablesEqualFold, same, || {
        let found = format!("row has {:?} with head {}", row.status, row.head_hash);
        wrong(row, format!("{found}, journal v{} {} with head {}", head.version, head.state, head.hash))
    });
}

fn wrong(row: &Row<'_>, what: impl Into<String>) -> Violation {
    let mut violation = Violation::new(format!("{}: {}", row.kind, what.into())).of(row.side, row.id);
    violation.version = Some(row.version);
    violation
}

/// Whether a row has the lines that the journal knows, in any order.
fn same_lines(known: &Lines, row: &[Line]) -> bool {
    let mut row: Vec<_> = row.iter().map(|line| (line.sku.as_str(), line.quantity)).collect();
    row.sort_unstable();
    known.iter().map(|(sku, quantity)| (&**sku, *quantity)).eq(row)
}
