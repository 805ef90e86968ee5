//! Invariant 6: the tables equal the fold of the journal.

use std::collections::HashSet;

use uuid::Uuid;

use crate::facts::Lines;
use crate::fold::Fold;
use crate::report::{Rule, Tally, Violation};
use crate::{JournalTable, Line, Observed, Side, Tables, UnreadRow};
use journal::ITEM_NAMESPACE;

/// The columns that every table of aggregates has.
struct Row<'a> {
    side: Side,
    kind: &'static str,
    id: Uuid,
    version: i64,
    head_hash: &'a str,
    /// `None` for an item, which has no status column.
    status: Option<&'a str>,
}

pub(crate) fn finish(fold: &Fold, observed: &Observed, tables: &Tables, exact: bool, tally: &mut Tally) {
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
            let same =
                same_lines(&known.lines, order.lines.as_deref()) && *known.principal == *order.principal;
            let depends = order.lines.is_none() || fold.doubts.aggregate(Side::Order, order.id);
            tally.judge(Rule::TablesEqualFold, same, depends, || {
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
            let same =
                same_lines(&known.lines, reservation.lines.as_deref()) && known.order == reservation.order_id;
            let depends =
                reservation.lines.is_none() || fold.doubts.aggregate(Side::Inventory, reservation.id);
            tally.judge(Rule::TablesEqualFold, same, depends, || {
                let row_has = format!("row has {:?} and {:?}", reservation.order_id, reservation.lines);
                wrong(&row, format!("{row_has}, journal {known:?}"))
            });
        }
    }
    for item in &tables.items {
        let Some(stock) = fold.stock.get(item.sku.as_str()) else {
            tally.judge(Rule::TablesEqualFold, false, fold.doubts.sku(&item.sku), || {
                Violation::new(format!("item {:?} is in the table, not in the journal", item.sku))
            });
            rows.insert((Side::Inventory, Uuid::new_v5(&ITEM_NAMESPACE, item.sku.as_bytes())));
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
            tally.judge(
                Rule::TablesEqualFold,
                item.on_hand == stock.on_hand && item.held == stock.held,
                fold.doubts.sku(&item.sku),
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
        let is_unread =
            |row: &UnreadRow| row.service == *side && row.aggregate.is_none_or(|aggregate| aggregate == *id);
        if exact {
            let depends = fold.doubts.aggregate(*side, *id) || observed.unread.iter().any(is_unread);
            tally.judge(Rule::TablesEqualFold, false, depends, || {
                let (kind, state) = (head.kind.as_deref(), head.state.as_deref());
                Violation::new(format!("{kind:?} is in the journal as {state:?}, not in the table"))
                    .of(*side, *id)
            });
        } else {
            tally.defer(Rule::TablesEqualFold);
        }
    }
}

/// Checks that a row has the version, state and hash of its aggregate's last entry.
fn head(fold: &Fold, row: &Row<'_>, exact: bool, tally: &mut Tally) {
    let depends = fold.doubts.aggregate(row.side, row.id) || fold.doubts.is_lost(row.side, row.head_hash);
    let Some(head) = fold.head(row.side, row.id) else {
        tally.judge(Rule::TablesEqualFold, false, depends, || {
            wrong(row, "is in the table, not in the journal")
        });
        return;
    };
    if !exact && row.version < head.version {
        tally.defer(Rule::TablesEqualFold);
        return;
    }
    let (status, kind) = (head.state.as_deref(), head.kind.as_deref());
    let same = row.version == head.version
        && row.status.is_none_or(|row| Some(row) == status)
        && row.head_hash == head.hash
        && Some(row.kind) == kind;
    // The hash of an unreadable entry is known. A row with another entry's hash is wrong.
    let depends =
        (head.state.is_none() && row.head_hash == head.hash) || fold.doubts.is_lost(row.side, row.head_hash);
    tally.judge(Rule::TablesEqualFold, same, depends, || {
        let found = format!("row has {:?} with head {}", row.status, row.head_hash);
        wrong(row, format!("{found}, journal v{} {status:?} with head {}", head.version, head.hash))
    });
}

/// Checks that the feed gave every row of the journal's table.
pub(crate) fn journals(observed: &Observed, tally: &mut Tally) {
    for JournalTable { service, rows, given, hidden, miscopied } in &observed.journals {
        let place = |what: String| Violation { service: Some(*service), ..Violation::new(what) };
        for row in miscopied {
            tally.check(Rule::TablesEqualFold, false, || Violation {
                service: Some(*service),
                aggregate: Some(row.aggregate),
                version: Some(row.version),
                seq: Some(row.seq),
                what: format!("the entry's columns {} differ from its body", row.columns.join(", ")),
            });
        }
        if rows == given && hidden.is_empty() {
            tally.check(Rule::FeedShowsJournal, true, || place(String::new()));
            continue;
        }
        for row in hidden {
            tally.check(Rule::FeedShowsJournal, false, || Violation {
                service: Some(*service),
                aggregate: Some(row.aggregate),
                version: Some(row.version),
                seq: Some(row.seq),
                what: "is a row of the journal's table that its feed does not give".to_owned(),
            });
        }
        if rows.abs_diff(*given) != hidden.len() as u64 {
            tally.check(Rule::FeedShowsJournal, false, || {
                place(format!("the journal's table has {rows} rows, and its feed gives {given}"))
            });
        }
    }
}

fn wrong(row: &Row<'_>, what: impl Into<String>) -> Violation {
    let mut violation = Violation::new(format!("{}: {}", row.kind, what.into())).of(row.side, row.id);
    violation.version = Some(row.version);
    violation
}

/// Returns whether a row has the lines that the journal knows, in any order.
fn same_lines(known: &Lines, row: Option<&[Line]>) -> bool {
    let Some(row) = row else { return false };
    let mut row: Vec<_> = row.iter().map(|line| (line.sku.as_str(), line.quantity)).collect();
    row.sort_unstable();
    known.iter().map(|(sku, quantity)| (&**sku, *quantity)).eq(row)
}
