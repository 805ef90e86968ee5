//! Data of another release. It is named and not judged, and neither are the facts that depend on it; everything else
//! is judged as if that data were absent. Changed data never passes for data of another release.

use checker::sample::{self, History, PLENTY};
use checker::{Checker, JournalRow, Report, Rule, Side, Unknown, UnreadRow, Unreadable};
use journal::entry::hash;
use journal::hex;
use serde_json::json;
use uuid::Uuid;

const ORDERS: usize = 14;

fn position(history: &History, kind: &str, to: &str, nth: usize) -> usize {
    let fits = |(_, r): &&(Side, checker::Recorded)| r.entry.aggregate_kind == kind && r.entry.to == to;
    let found = history.entries.iter().filter(fits).nth(nth).expect("the sample has one");
    history.entries.iter().position(|entry| entry.1.seq == found.1.seq).expect("it was found")
}

/// Checks a history in which the entry at `index` is an unreadable row, after `change` has changed that row.
fn with_row(history: &History, index: usize, change: impl Fn(&mut Unreadable)) -> Report {
    let contract = sample::contract();
    let mut checker = Checker::new(&contract);
    for (place, (side, recorded)) in history.entries.iter().enumerate() {
        if place != index {
            checker.entry(*side, recorded);
            continue;
        }
        let mut row = Unreadable {
            seq: recorded.seq,
            hash: recorded.hash.clone(),
            body: recorded.body.clone(),
            why: "an entry of a later release".to_owned(),
            id: Some(recorded.entry.id),
            aggregate: Some(recorded.entry.aggregate_id),
            kind: Some(recorded.entry.aggregate_kind.to_string()),
            version: Some(recorded.entry.version),
        };
        change(&mut row);
        checker.row(*side, &JournalRow::Unreadable(row.into()));
    }
    checker.finish(&history.observed)
}

fn forget_place(row: &mut Unreadable) {
    (row.id, row.aggregate, row.kind, row.version) = (None, None, None, None);
}

/// Asserts that nothing is broken, that one item is named as unknown, and that more than 90 % of the facts were
/// judged.
fn assert_others_are_judged(report: &Report, unknown: Unknown, what: &str) {
    assert!(!report.is_broken(), "{what}: {report}");
    assert!(!report.is_judged() && !report.is_clean(), "{what}: {report}");
    assert_eq!(report.not_judged.get(&unknown), Some(&1), "{what}: {report}");
    assert_eq!(report.not_judged_shown.len(), 1, "{what}: {report}");
    assert!(report.require(&[]).is_err(), "{what}: this release writes no data that it cannot read");
    let whole = sample::healthy(ORDERS).check(&sample::contract());
    let judged: u64 = report.findings.iter().map(|finding| finding.checked).sum();
    let all: u64 = whole.findings.iter().map(|finding| finding.checked).sum();
    assert!(judged * 100 > all * 90, "{what}: only {judged} of {all} facts were judged: {report}");
}

#[test]
fn one_entry_that_cannot_be_read_blocks_only_the_facts_that_depend_on_it() {
    let history = sample::healthy(ORDERS);
    for index in 0..history.entries.len() {
        let what = format!("entry {index}");
        assert_others_are_judged(&with_row(&history, index, |_| ()), Unknown::Entry, &what);
        assert_others_are_judged(&with_row(&history, index, forget_place), Unknown::Entry, &what);
    }
}

#[test]
fn bytes_with_a_wrong_hash_are_broken_and_not_of_another_release() {
    let history = sample::healthy(ORDERS);
    let report = with_row(&history, 5, |row| row.body[20] ^= 1);
    assert_eq!(report.broken().collect::<Vec<_>>(), [Rule::ChainVerifies], "{report}");
}

#[test]
fn a_chain_that_does_not_go_through_the_unreadable_entry_is_broken() {
    let history = sample::healthy(ORDERS);
    let index = position(&history, "order", "reserved", 0);
    let report = with_row(&history, index, |row| {
        row.body = b"not JSON".to_vec();
        row.hash = hex(&hash(&row.body));
    });
    assert!(report.broken().any(|rule| rule == Rule::ChainVerifies), "{report}");
}

#[test]
fn a_fault_beside_an_unreadable_entry_is_still_found() {
    let mut history = sample::healthy(ORDERS);
    let unreadable = position(&history, "order", "confirmed", 0);
    let tables = history.observed.tables.as_mut().expect("the sample has tables");
    tables.items[1].on_hand += 1;
    tables.orders[3].status = "cancelled".into();
    let report = with_row(&history, unreadable, |_| ());
    assert_eq!(report.finding(Rule::StockConserved).violated, 1, "{report}");
    assert_eq!(report.finding(Rule::TablesEqualFold).violated, 2, "{report}");
}

#[test]
fn an_entry_of_an_unknown_kind_status_or_rule_is_named_and_blocks_only_the_facts_that_depend_on_it() {
    type Change = fn(&mut checker::Recorded);
    let changes: [(Unknown, &str, &str, &str, Change); 5] = [
        (Unknown::Rule, "order", "confirmed", "confirmed@2", |r| r.entry.rule = "sample.heard@2".into()),
        (Unknown::Rule, "reservation", "held", "reserve@2", |r| r.entry.rule = "sample.reserve@2".into()),
        (Unknown::Rule, "order", "reserving", "other inputs", |r| {
            r.entry.rule = "sample.heard@2".into();
            r.entry.inputs = json!({"basket": []});
        }),
        (Unknown::Status, "order", "cancelled", "a new status", |r| {
            r.entry.to = "returned".into();
            r.entry.rule = "sample.heard@2".into();
        }),
        (Unknown::Kind, "item", "stocked", "a new kind", |r| {
            r.entry.aggregate_kind = "shipment".into();
            r.entry.aggregate_id = Uuid::from_u128(8);
            r.entry.version = 1;
            r.entry.from = "none".into();
        }),
    ];
    for (unknown, kind, to, what, change) in changes {
        let mut history = sample::healthy(ORDERS);
        // The last such entry, because it has no effects in the sample.
        let count =
            history.entries.iter().filter(|(_, r)| r.entry.aggregate_kind == kind && r.entry.to == to);
        let last = count.count() - 1;
        let index = position(&history, kind, to, last);
        let before = history.entries[index].1.entry.aggregate_id;
        change(&mut history.entries[index].1);
        let status = history.entries[index].1.entry.to.to_string();
        history.reseal();
        let tables = history.observed.tables.as_mut().expect("the sample has tables");
        if unknown == Unknown::Status {
            let row = tables.orders.iter_mut().find(|row| row.id == before);
            row.expect("the order has a row").status = status;
            let is_about = |reply: &checker::ClientReply| reply.aggregate == Some(before);
            history.observed.requests.retain(|request| !request.reply.as_ref().is_some_and(is_about));
        }
        if unknown == Unknown::Kind {
            // An aggregate of another kind is in no table of this release, so the receipt is missing from the item.
            let row = tables.items.iter_mut().find(|row| row.sku == PLENTY).expect("it is there");
            row.on_hand -= 50;
            row.version = 1;
            row.head_hash = history.entries[0].1.hash.clone();
        }
        let report = history.check(&sample::contract());
        assert_others_are_judged(&report, unknown, what);
    }
}

#[test]
fn a_member_of_a_later_release_in_an_entry_is_ignored() {
    let mut history = sample::healthy(ORDERS);
    let index = position(&history, "order", "cancelled", 0);
    let recorded = &mut history.entries[index].1;
    let mut json: serde_json::Value = serde_json::from_slice(&recorded.body).expect("it is JSON");
    json["zone"] = json!("eu-1");
    recorded.body = serde_json::to_vec(&json).expect("it is JSON");
    recorded.hash = hex(&hash(&recorded.body));
    let (id, new) = (recorded.entry.aggregate_id, recorded.hash.clone());
    let tables = history.observed.tables.as_mut().expect("the sample has tables");
    tables.orders.iter_mut().find(|row| row.id == id).expect("it is there").head_hash = new;
    history.check(&sample::contract()).require(Rule::ALL).unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn a_row_that_cannot_be_read_blocks_only_itself() {
    let mut history = sample::healthy(ORDERS);
    history.observed.requests.clear();
    let tables = history.observed.tables.as_mut().expect("the sample has tables");
    let row = tables.orders.pop().expect("the sample has orders");
    let what = "version: out of range".to_owned();
    history.observed.unread.push(UnreadRow {
        service: Side::Order,
        table: "orders".to_owned(),
        aggregate: Some(row.id),
        what,
    });
    let report = history.check(&sample::contract());
    assert!(!report.is_broken(), "{report}");
    assert_eq!(report.finding(Rule::TablesEqualFold).not_judged, 1, "{report}");

    let tables = history.observed.tables.as_mut().expect("the sample has tables");
    tables.orders.pop();
    assert!(
        history.check(&sample::contract()).is_broken(),
        "a missing row that was not unreadable breaks the rule"
    );
}

#[test]
fn lines_that_cannot_be_read_leave_the_rest_of_their_row_to_be_judged() {
    let mut history = sample::healthy(ORDERS);
    let tables = history.observed.tables.as_mut().expect("the sample has tables");
    tables.orders[0].lines = None;
    let report = history.check(&sample::contract());
    assert!(!report.is_broken(), "{report}");
    assert_eq!(report.finding(Rule::TablesEqualFold).not_judged, 1, "{report}");
    let tables = history.observed.tables.as_mut().expect("the sample has tables");
    tables.orders[0].status = "cancelled".into();
    assert!(history.check(&sample::contract()).is_broken());
}

#[test]
fn quantities_beyond_every_bound_break_a_rule_and_do_not_end_the_check() {
    let mut history = sample::healthy(ORDERS);
    for nth in 0..2 {
        let index = position(&history, "item", "stocked", nth);
        history.entries[index].1.entry.inputs["quantity"] = json!(i64::MAX);
    }
    let index = position(&history, "order", "cancelled", 0);
    history.entries[index].1.entry.version = i64::MAX;
    history.reseal();
    assert!(history.check(&sample::contract()).is_broken());
}

#[test]
fn a_report_writes_no_control_characters_of_the_data_on_the_screen() {
    let mut history = sample::healthy(ORDERS);
    let index = position(&history, "order", "confirmed", 0);
    history.entries[index].1.entry.from = "\u{1b}[2Jconfirming\u{202e}".into();
    history.reseal();
    let text = history.check(&sample::contract()).to_string();
    assert!(text.contains("confirming") && !text.contains(['\u{1b}', '\u{202e}']), "{text}");
}
