//! Histories that are wrong. The checker's verdict is worth something only if it fails on them. Each corruption
//! changes one fact of a healthy history, and the rule that it breaks must report it.

use std::collections::HashSet;

use checker::sample::{self, History, PLENTY};
use checker::{Contract, Recorded, Rule, Side};
use serde_json::json;
use uuid::Uuid;

/// The rule that must break, the description of the change, and the change.
type Corruption = (Rule, &'static str, fn(&mut History));

/// At least one corruption for every rule.
const CORRUPTIONS: &[Corruption] = &[
    (Rule::StockWithinBounds, "more is reserved than is there", |history| {
        entry(history, "reservation", "held").entry.inputs["lines"][0]["quantity"] = json!(100_000);
        history.reseal();
    }),
    (Rule::StockWithinBounds, "less than nothing is received", |history| {
        entry(history, "item", "stocked").entry.inputs["quantity"] = json!(-5);
        history.reseal();
    }),
    (Rule::StockConserved, "stock vanishes from the table", |history| tables(history).items[0].on_hand -= 1),
    (Rule::StockConserved, "more is promised than is reserved", |history| tables(history).items[0].held += 1),
    (Rule::StockConserved, "a reservation holds a SKU that was never created", |history| {
        entry(history, "reservation", "held").entry.inputs["lines"][0]["sku"] = json!("GHOST");
        history.reseal();
    }),
    (Rule::StockConserved, "a receipt does not say how much", |history| {
        entry(history, "item", "stocked").entry.inputs = json!({"heard": "stocked", "sku": PLENTY});
        history.reseal();
    }),
    (Rule::StockReadAsItStood, "a decision read stock without another decision's hold", |history| {
        let index = position(history, "reservation", "held", 5);
        history.entries[index].1.entry.inputs["lines"][0]["stock"]["held"] = json!(0);
        history.reseal();
    }),
    (Rule::StockReadAsItStood, "two decisions changed places", |history| {
        let (one, other) =
            (position(history, "reservation", "held", 0), position(history, "item", "stocked", 2));
        history.entries.swap(one, other);
    }),
    (Rule::ConfirmedTogether, "another reservation than the order asked for was confirmed", |history| {
        entry(history, "order", "reserving").entry.inputs["reservation_id"] = json!(Uuid::from_u128(4));
        history.reseal();
    }),
    (Rule::OneOrderPerKey, "one key creates two orders", |history| {
        let key = entry(history, "order", "reserving").entry.key_hash.clone();
        nth(history, "order", "reserving", 1).entry.key_hash = key;
        history.reseal();
    }),
    (Rule::OneOrderPerKey, "an order is created without a key", |history| {
        entry(history, "order", "reserving").entry.key_hash = None;
        history.reseal();
    }),
    (Rule::OneOrderPerKey, "a key row names another order than it created", |history| {
        tables(history).keys[0].aggregate_id = Some(Uuid::from_u128(7));
    }),
    (Rule::OneLiveReservation, "an order holds two reservations", |history| {
        let order = nth(history, "order", "reserving", 5).entry.aggregate_id;
        nth(history, "reservation", "held", 5).entry.inputs["order_id"] = json!(order);
        history.reseal();
    }),
    (Rule::AcknowledgedSurvives, "an acknowledged order is gone", |history| {
        let id = told(history).aggregate;
        history.entries.retain(|(_, recorded)| Some(recorded.entry.aggregate_id) != id);
    }),
    (Rule::AcknowledgedSurvives, "an acknowledged order is not in the table", |history| {
        tables(history).orders.remove(0);
    }),
    (Rule::AcknowledgedSurvives, "the table is older than a reply", |history| {
        tables(history).orders[0].version = 1;
    }),
    (Rule::AcknowledgedSurvives, "the journal has another state than the reply", |history| {
        told(history).state = Some("confirmed".to_owned());
    }),
    (Rule::AcknowledgedSurvives, "a final reply was not stored", |history| {
        tables(history).keys.remove(0);
    }),
    (Rule::NotExecutedLeftNothing, "a shed request left its key", |history| {
        let key_hash = history.observed.requests[0].key_hash.clone().expect("it was a POST");
        let row = checker::KeyRow { key_hash, ..tables(history).keys[0].clone() };
        tables(history).keys.push(row);
    }),
    (Rule::NotExecutedLeftNothing, "a shed request left an entry", |history| {
        let key = history.observed.requests[0].key_hash.clone().map(Into::into);
        entry(history, "order", "confirming").entry.key_hash = key;
        history.reseal();
    }),
    (Rule::ConfirmedTogether, "an order is confirmed without its reservation", |history| {
        forget(history, Side::Inventory, "confirmed");
    }),
    (Rule::ConfirmedTogether, "the reservation has other lines than the order", |history| {
        entry(history, "reservation", "held").entry.inputs["lines"][0]["quantity"] = json!(5);
        history.reseal();
    }),
    (Rule::ConfirmedTogether, "the order is confirmed because of the hold", |history| {
        let held = entry(history, "reservation", "held").entry.id;
        entry(history, "order", "confirmed").entry.causation_id = Some(held);
        history.reseal();
    }),
    (Rule::ConfirmedTogether, "the reservation is confirmed because of the confirmed order", |history| {
        let (asked, confirmed) =
            (entry(history, "order", "confirming").entry.id, entry(history, "order", "confirmed").entry.id);
        entry(history, "order", "confirmed").entry.causation_id = Some(asked);
        entry(history, "reservation", "confirmed").entry.causation_id = Some(confirmed);
        history.reseal();
    }),
    (Rule::FeedShowsJournal, "a row of the journal is not in its feed", |history| {
        let hidden = checker::HiddenRow { seq: -5, aggregate: Uuid::from_u128(6), version: 1 };
        history.observed.journals[1].rows += 1;
        history.observed.journals[1].hidden.push(hidden);
    }),
    (Rule::FeedShowsJournal, "the feed gives a row twice", |history| history.observed.journals[0].given += 1),
    (Rule::TablesEqualFold, "an entry's column differs from its body", |history| {
        let columns = vec!["correlation_id".to_owned()];
        let row = checker::MiscopiedRow { seq: 1, aggregate: Uuid::from_u128(6), version: 1, columns };
        history.observed.journals[0].miscopied.push(row);
    }),
    (Rule::TablesEqualFold, "a stored reply is about another order", |history| {
        let other = Some(Uuid::from_u128(6));
        tables(history).keys[0].told =
            Some(checker::ClientReply { status: 201, aggregate: other, ..Default::default() });
    }),
    (Rule::TablesEqualFold, "a stored reply is no final reply", |history| {
        tables(history).keys[0].told = Some(checker::ClientReply { status: 500, ..Default::default() });
    }),
    (Rule::TablesEqualFold, "a key was settled by no entry", |history| {
        tables(history).keys[0].entry_id = Some(Uuid::from_u128(6));
    }),
    (Rule::TablesEqualFold, "a stored reply tells of another state than its entry", |history| {
        let settled = entry(history, "order", "reserved").entry.clone();
        let row = &mut tables(history).keys[0];
        (row.aggregate_id, row.entry_id) = (Some(settled.aggregate_id), Some(settled.id));
        let (status, aggregate, state) = (201, Some(settled.aggregate_id), Some("confirmed".to_owned()));
        row.told = Some(checker::ClientReply { status, aggregate, state, ..Default::default() });
    }),
    (Rule::ConfirmedWhenAsked, "the confirmed reservation has no cause", |history| {
        entry(history, "reservation", "confirmed").entry.causation_id = None;
        history.reseal();
    }),
    (Rule::ConfirmedWhenAsked, "the order had only reserved", |history| {
        let reserved = entry(history, "order", "reserved").entry.id;
        entry(history, "reservation", "confirmed").entry.causation_id = Some(reserved);
        history.reseal();
    }),
    (Rule::ConfirmedWhenAsked, "another order asked", |history| {
        let confirming = nth(history, "order", "confirming", 1).entry.id;
        entry(history, "reservation", "confirmed").entry.causation_id = Some(confirming);
        history.reseal();
    }),
    (Rule::ConfirmedWhenAsked, "the order expires after the pivot", |history| {
        let recorded = entry(history, "order", "confirmed");
        recorded.entry.to = "expired".into();
        recorded.entry.inputs["heard"] = json!("expired");
        history.reseal();
    }),
    (Rule::RestHoldsNothing, "a cancelled order still holds stock", |history| {
        forget(history, Side::Inventory, "released");
    }),
    (Rule::RestIsSettled, "an order is stuck in an unknown state", |history| {
        let id = entry(history, "order", "confirm_unknown").entry.aggregate_id;
        let last = history.entries.iter().rposition(|(_, recorded)| recorded.entry.aggregate_id == id);
        history.entries.remove(last.expect("the order has entries"));
    }),
    (Rule::RestIsSettled, "a reserved order is past its expiry", |history| {
        let now = history.observed.now.map(|now| now - time::Duration::seconds(5));
        let row = tables(history).orders.iter_mut().find(|row| row.status == "reserved");
        row.expect("one is still reserved").expires_at = now;
    }),
    (Rule::LegalTransition, "a refused order is confirmed after all", |history| {
        let recorded = entry(history, "order", "rejected");
        recorded.entry.to = "confirmed".into();
        recorded.entry.inputs["heard"] = json!("confirmed");
        history.reseal();
    }),
    (Rule::ContiguousVersions, "a version is skipped", |history| {
        entry(history, "order", "confirmed").entry.version += 1;
        history.reseal();
    }),
    (Rule::ContiguousVersions, "an entry is lost", |history| {
        let index = position(history, "order", "reserved", 0);
        history.entries.remove(index);
        history.reseal();
    }),
    (Rule::ContiguousVersions, "an entry leaves another state than the entry before it reached", |history| {
        entry(history, "order", "confirmed").entry.from = "confirm_unknown".into();
        history.reseal();
    }),
    (Rule::TerminalIsFinal, "a confirmed order is confirmed again", |history| {
        let index = position(history, "order", "confirmed", 0);
        let (side, mut again) = history.entries[index].clone();
        again.entry.id = Uuid::from_u128(9);
        again.entry.version += 1;
        again.entry.from = "confirmed".into();
        history.entries.insert(index + 1, (side, again));
        history.reseal();
    }),
    (Rule::TablesEqualFold, "a row says another state", |history| {
        tables(history).orders[0].status = "cancelled".into();
    }),
    (Rule::TablesEqualFold, "a row has another head", |history| {
        tables(history).reservations[0].head_hash = "0".repeat(64);
    }),
    (Rule::TablesEqualFold, "a row has other lines", |history| {
        tables(history).reservations[0].lines.as_mut().expect("it can be read")[0].quantity += 1;
    }),
    (Rule::TablesEqualFold, "a row has another principal", |history| {
        tables(history).orders[0].principal = "mallory".into();
    }),
    (Rule::TablesEqualFold, "a row has no entries", |history| {
        let row = checker::OrderRow { id: Uuid::from_u128(3), ..tables(history).orders[0].clone() };
        tables(history).orders.push(row);
    }),
    (Rule::TablesEqualFold, "an order in the journal has no row", |history| {
        tables(history).orders.pop();
    }),
    (Rule::TablesEqualFold, "an item's row is wrong", |history| tables(history).items[1].held += 1),
    (Rule::CauseResolves, "a cause is in neither journal", |history| {
        entry(history, "order", "reserved").entry.causation_id = Some(Uuid::from_u128(5));
        history.reseal();
    }),
    (Rule::CauseResolves, "the correlation id is lost on the way", |history| {
        entry(history, "reservation", "held").entry.correlation_id = "another".into();
        history.reseal();
    }),
    (Rule::CauseResolves, "an entry is there twice", |history| {
        let first = entry(history, "order", "reserving").entry.id;
        nth(history, "order", "reserving", 1).entry.id = first;
        history.reseal();
    }),
    (Rule::OneRootPerRequest, "a request has two roots", |history| {
        let key = entry(history, "order", "reserving").entry.key_hash.clone();
        entry(history, "order", "confirming").entry.key_hash = key;
        history.reseal();
    }),
    (Rule::OneRootPerRequest, "inventory lost the cause of a reservation", |history| {
        entry(history, "reservation", "held").entry.causation_id = None;
        history.reseal();
    }),
    (Rule::ClockFollowsCause, "an effect is before its cause", |history| {
        let early = entry(history, "item", "stocked").entry.hlc;
        entry(history, "reservation", "held").entry.hlc = early;
        history.reseal();
    }),
    (Rule::RepliesEqual, "a replay has other bytes", |history| {
        told(history).body_hash = "f".repeat(64);
    }),
    (Rule::RepliesEqual, "a replay has another status", |history| {
        told(history).status = 200;
    }),
    (Rule::RepliesEqual, "two replies differ and none was stored", |history| {
        tables(history).keys.clear();
        told(history).body_hash = "f".repeat(64);
    }),
    (Rule::RepliesEqual, "the stored reply is not the reply that was sent", |history| {
        let stored = tables(history).keys[0].reply.as_mut();
        stored.expect("the sample's keys are settled").body_hash = "f".repeat(64);
    }),
    (Rule::KeysSettle, "a key never got its reply", |history| tables(history).keys[0].reply = None),
    (Rule::NothingStartsLate, "a statement starts after the deadline", |history| {
        history.observed.starts[3].left_ms = Some(0);
    }),
    (Rule::TimeFallsPerHop, "the peer is given as much time as there was", |history| {
        history.observed.starts[1].left_ms = history.observed.starts[0].left_ms;
    }),
    (Rule::TimeFallsPerHop, "the peer takes more time than it was given", |history| {
        history.observed.starts[2].left_ms = Some(1_991);
    }),
    (Rule::AttemptsPerCall, "a call is tried too often", |history| history.observed.calls[0].attempts = 4),
    (Rule::AttemptsPerHop, "retries outgrow the budget", |history| {
        history.observed.calls.iter_mut().for_each(|call| call.attempts = 3);
    }),
    (Rule::NoIdleTransaction, "a session is idle in its transaction", |history| {
        history.observed.sessions[0].idle_in_transaction_ms = 1_001;
    }),
    (Rule::BackToBaseline, "tasks leak", |history| history.observed.gauges[0].now = 60.0),
    (Rule::DecisionReexecutes, "the inputs reach another state", |history| {
        entry(history, "order", "confirmed").entry.inputs["heard"] = json!("expired");
        history.reseal();
    }),
    (Rule::DecisionReexecutes, "the inputs do not fit the rule", |history| {
        entry(history, "order", "confirmed").entry.inputs = json!({});
        history.reseal();
    }),
    (Rule::DecisionReexecutes, "a known rule reaches a status of no release", |history| {
        entry(history, "order", "confirmed").entry.to = "delivered".into();
        history.reseal();
    }),
    (Rule::DecisionReexecutes, "the branch taken is also one refused", |history| {
        entry(history, "order", "confirmed").entry.alternatives[0].to = "confirmed".into();
        history.reseal();
    }),
    (Rule::ChainVerifies, "bytes were changed", |history| {
        entry(history, "order", "confirmed").body[20] ^= 1;
    }),
    (Rule::ChainVerifies, "bytes and hash were changed, the chain was not", |history| {
        let recorded = entry(history, "order", "reserving");
        recorded.entry.principal = "mallory".into();
        recorded.body = recorded.entry.to_bytes();
        recorded.hash = journal::hex(&journal::entry::hash(&recorded.body));
    }),
    (Rule::ChainVerifies, "the bytes of an entry of the first format are not canonical", |history| {
        let recorded = entry(history, "order", "confirmed");
        recorded.entry.format = 1;
        recorded.body = serde_json::to_vec_pretty(&recorded.entry).expect("it is JSON");
        recorded.hash = journal::hex(&journal::entry::hash(&recorded.body));
    }),
    (Rule::ChainVerifies, "an entry is of another service", |history| {
        entry(history, "order", "confirmed").entry.service = "inventory".into();
        history.reseal();
    }),
];

#[test]
fn a_healthy_history_is_clean_and_meets_every_rule() {
    let report = sample::healthy(14).check(&sample::contract());
    report.require(Rule::ALL).unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn every_corruption_is_caught_by_its_rule() {
    let contract = sample::contract();
    for (rule, what, corrupt) in CORRUPTIONS {
        let mut history = sample::healthy(14);
        corrupt(&mut history);
        let report = history.check(&contract);
        assert!(report.finding(*rule).violated > 0, "{rule:?} missed that {what}:\n{report}");
        assert!(report.require(&[]).is_err());
    }
}

#[test]
fn every_rule_has_a_corruption() {
    let tried: HashSet<_> = CORRUPTIONS.iter().map(|(rule, ..)| *rule).collect();
    let untried: Vec<_> = Rule::ALL.iter().filter(|rule| !tried.contains(rule)).collect();
    assert!(untried.is_empty(), "no corruption tries {untried:?}");
}

#[test]
fn every_prefix_of_a_healthy_history_is_clean_while_it_is_running() {
    let contract = sample::contract();
    let whole = sample::healthy(7);
    for length in 0..=whole.entries.len() {
        let mut prefix = whole.clone();
        prefix.entries.truncate(length);
        prefix.observed = checker::Observed::default();
        let report = prefix.check(&contract);
        assert!(report.is_clean(), "after {length} entries:\n{report}");
    }
}

#[test]
fn an_order_journal_that_was_read_earlier_is_clean_while_it_is_running() {
    let contract = sample::contract();
    let whole = sample::healthy(7);
    let orders = whole.entries.iter().filter(|(side, _)| *side == Side::Order).count();
    for length in 0..=orders {
        let mut running = whole.clone();
        let mut seen = 0;
        running.entries.retain(|(side, _)| {
            seen += usize::from(*side == Side::Order);
            *side == Side::Inventory || seen <= length
        });
        running.observed = checker::Observed::default();
        let report = running.check(&contract);
        assert!(report.is_clean(), "with {length} entries of orders:\n{report}");
    }
}

#[test]
fn tables_that_are_older_than_the_journal_are_clean_while_it_is_running() {
    let contract = sample::contract();
    let mut history = sample::healthy(7);
    history.observed.at_rest = false;
    history.observed.one_snapshot = false;
    history.observed.requests.clear();
    tables(&mut history).orders[0].version -= 1;
    tables(&mut history).orders[0].status = "confirming".into();
    let report = history.check(&contract);
    assert!(report.is_clean(), "{report}");
    assert!(report.finding(Rule::TablesEqualFold).deferred > 0);

    tables(&mut history).orders[0].version += 2;
    let report = history.check(&contract);
    assert!(report.broken().any(|rule| rule == Rule::TablesEqualFold), "a row from the future:\n{report}");
}

#[test]
fn tables_of_the_same_snapshot_are_exact_while_it_is_running() {
    let contract = sample::contract();
    let mut history = sample::healthy(7);
    history.observed.at_rest = false;
    history.observed.one_snapshot = true;
    let report = history.check(&contract);
    report
        .require(&[Rule::TablesEqualFold, Rule::StockConserved])
        .unwrap_or_else(|broken| panic!("{broken}"));
    assert_eq!(report.finding(Rule::TablesEqualFold).deferred, 0);

    tables(&mut history).items[0].held += 1;
    let broken: Vec<_> = history.check(&contract).broken().collect();
    assert_eq!(broken, [Rule::StockConserved, Rule::TablesEqualFold]);
}

#[test]
fn the_report_of_an_empty_history_says_that_there_was_nothing_to_check() {
    let history = History { entries: Vec::new(), observed: checker::Observed::default() };
    let report = history.check(&sample::contract());
    assert!(report.is_clean());
    assert_eq!(report.nothing_to_check().count(), Rule::ALL.len());
    assert!(report.require(&[Rule::ChainVerifies]).unwrap_err().contains("met no fact"));
    assert!(report.to_string().contains("nothing to check"));
}

#[test]
fn a_violation_names_the_aggregate_the_version_and_the_place() {
    let mut history = sample::healthy(7);
    let recorded = entry(&mut history, "order", "confirmed");
    recorded.entry.inputs["heard"] = json!("expired");
    let (id, version, seq) = (recorded.entry.aggregate_id, recorded.entry.version, recorded.seq);
    history.reseal();
    let report = history.check(&sample::contract());
    let text = report.finding(Rule::DecisionReexecutes).violations[0].to_string();
    for part in [format!("order {id}"), format!("v{version}"), format!("seq {seq}"), "expired".to_owned()] {
        assert!(text.contains(&part), "{part} is not in {text}");
    }
}

#[test]
fn many_violations_are_counted_in_full_and_shown_in_part() {
    let contract = Contract::new(Vec::<(&str, &str, &str)>::new(), |_, _| Ok("elsewhere".to_owned()));
    let report = sample::healthy(100).check(&contract);
    let finding = report.finding(Rule::DecisionReexecutes);
    assert_eq!(finding.violated, report.entries);
    assert_eq!(finding.violations.len(), checker::Finding::SHOWN);
    assert!(report.to_string().contains("more"));
}

fn position(history: &History, kind: &str, to: &str, nth: usize) -> usize {
    let fits = |recorded: &Recorded| recorded.entry.aggregate_kind == kind && recorded.entry.to == to;
    let mut found = (0..history.entries.len()).filter(|index| fits(&history.entries[*index].1));
    found.nth(nth).unwrap_or_else(|| panic!("the sample has no {kind} that becomes {to}"))
}

fn nth<'a>(history: &'a mut History, kind: &str, to: &str, nth: usize) -> &'a mut Recorded {
    let index = position(history, kind, to, nth);
    &mut history.entries[index].1
}

fn entry<'a>(history: &'a mut History, kind: &str, to: &str) -> &'a mut Recorded {
    nth(history, kind, to, 0)
}

fn tables(history: &mut History) -> &mut checker::Tables {
    history.observed.tables.as_mut().expect("the sample has tables")
}

/// Removes the first entry of `side` that reached `to`.
fn forget(history: &mut History, side: Side, to: &str) {
    let found = history.entries.iter().position(|(at, recorded)| *at == side && recorded.entry.to == to);
    history.entries.remove(found.expect("the sample has one"));
}

/// The replayed reply of the first client.
fn told(history: &mut History) -> &mut checker::ClientReply {
    history.observed.requests[3].reply.as_mut().expect("it was answered")
}
