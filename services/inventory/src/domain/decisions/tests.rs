//! Tests of the rules against the table of transitions, against their recorded inputs, and against plain arithmetic.

use journal::rule::ReplayError;
use journal::{Rule, State as _};
use proptest::prelude::*;
use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::*;
use crate::domain::Status;
use crate::domain::stock::{HoldSeconds, ItemName, Line, OpeningStock, Quantity, Sku, Stock};
use crate::domain::{ItemState, TRANSITIONS};

fn sku() -> impl Strategy<Value = Sku> {
    "[!-~]([ -~]{0,10}[!-~])?".prop_map(|text| Sku::try_from(text).unwrap())
}

fn quantity() -> impl Strategy<Value = Quantity> {
    (1..=1_000_000_i64).prop_map(|n| Quantity::try_from(n).unwrap())
}

fn stock() -> impl Strategy<Value = Stock> {
    (1..1_000_i64, 0..1_500_000_i64).prop_flat_map(|(version, on_hand)| {
        (0..=on_hand).prop_map(move |held| Stock { held, on_hand, version })
    })
}

/// A time in microseconds, as the database has it.
fn instant() -> impl Strategy<Value = OffsetDateTime> {
    (0..4_000_000_000_000_000_i64)
        .prop_map(|micros| OffsetDateTime::UNIX_EPOCH + Duration::microseconds(micros))
}

fn state() -> impl Strategy<Value = Status> {
    proptest::sample::select(&Status::ALL[..])
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    proptest::collection::vec((sku(), quantity()).prop_map(|(sku, quantity)| Line { sku, quantity }), 0..4)
}

prop_compose! {
    fn reserve()(
        lines in proptest::collection::vec((sku(), quantity(), proptest::option::weighted(0.9, stock())), 1..5),
        hold in 1..=86_400_i64,
        now in instant(),
    ) -> Reserve {
        let lines = lines.into_iter().map(|(sku, quantity, stock)| RequestedLine { quantity, sku, stock });
        let hold_seconds = HoldSeconds::try_from(hold).unwrap();
        Reserve { order_id: Uuid::nil(), lines: lines.collect(), hold_seconds, now }
    }
}

prop_compose! {
    fn confirm()(
        lines in lines(), state in state(), version in 1..9_i64, now in instant(), left in -3..3_i64,
    ) -> Confirm {
        let expires_at = (state != Status::Voided).then(|| now + Duration::microseconds(left));
        Confirm { order_id: Some(Uuid::nil()), lines: lines.into(), state, version, now, expires_at }
    }
}

/// Checks that the verdict is a legal move or keeps the state, that it has a reason, and that executing the named rule
/// again, from its inputs as text, gives the same verdict.
fn holds<R: Rule>(rule: &R, from: Option<R::State>) -> R::State {
    let verdict = rule.decide();
    let name = from.map_or("none", R::State::as_str);
    let arrow = (R::State::KIND, name, verdict.to.as_str());
    assert!(from == Some(verdict.to) || TRANSITIONS.contains(&arrow), "{arrow:?}");
    assert_eq!(verdict.alternatives.len(), 1);
    assert!(!verdict.alternatives[0].refused_because.is_empty());
    let text = serde_json::to_string(rule).unwrap();
    let recorded = serde_json::from_str(&text).unwrap();
    assert!(!has_float(&recorded), "{text}");
    let again = replay(R::NAME, &recorded).unwrap();
    assert_eq!(again, verdict.to.as_str());
    verdict.to
}

fn has_float(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => number.is_f64(),
        serde_json::Value::Array(list) => list.iter().any(has_float),
        serde_json::Value::Object(map) => map.values().any(has_float),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::String(_) => false,
    }
}

proptest! {
    #[test]
    fn stock_is_promised_exactly_when_every_line_fits(rule in reserve()) {
        let fits = rule.lines.iter().all(|line| {
            line.stock.is_some_and(|stock| stock.on_hand - stock.held >= line.quantity.get())
        });
        let to = holds(&rule, None);
        prop_assert_eq!(to == Status::Held, fits);
        prop_assert_eq!(to == Status::Refused, !fits);
        prop_assert_eq!(fits, rule.unknown_skus().is_empty() && rule.short_lines().is_empty());
    }

    #[test]
    fn a_hold_is_confirmed_before_its_end_and_expired_from_then_on(rule in confirm()) {
        let to = holds(&rule, Some(rule.state));
        let expected = match rule.state {
            Status::Held if rule.now < rule.expires_at.unwrap() => Status::Confirmed,
            Status::Held => Status::Expired,
            other => other,
        };
        prop_assert_eq!(to, expected);
    }

    #[test]
    fn the_sweep_ends_only_holds_and_only_after_their_end(rule in confirm()) {
        let Confirm { order_id, lines, state, version, now, expires_at } = rule;
        let rule = Expire { order_id, lines, state, version, now, expires_at };
        let to = holds(&rule, Some(state));
        let due = state == Status::Held && expires_at.is_some_and(|end| end <= now);
        prop_assert_eq!(to, if due { Status::Expired } else { state });
    }

    #[test]
    fn a_release_frees_a_hold_voids_an_unknown_reservation_and_leaves_the_others(
        lines in lines(), state in proptest::option::of(state()), version in 0..9_i64,
    ) {
        let to = holds(&Release { order_id: None, lines: lines.into(), state, version }, state);
        let expected = match state {
            None => Status::Voided,
            Some(Status::Held) => Status::Released,
            Some(other) => other,
        };
        prop_assert_eq!(to, expected);
    }

    #[test]
    fn an_item_is_created_once_and_accepts_every_receipt(
        sku in sku(), name in "\\PC{0,20}", opening in 0..=1_000_000_000_i64, quantity in quantity(), stock in stock(),
    ) {
        let name = ItemName::try_from(name).unwrap();
        let opening = OpeningStock::try_from(opening).unwrap();
        for state in [None, Some(ItemState::Stocked)] {
            let rule = CreateItem { sku: sku.clone(), name: name.clone(), quantity: opening, state };
            prop_assert_eq!(holds(&rule, state), ItemState::Stocked);
        }
        let of_items = TRANSITIONS.into_iter().filter(|(kind, ..)| *kind == ItemState::KIND);
        prop_assert_eq!(of_items.count(), 2, "the creation and the receipt");
        let state = ItemState::Stocked;
        prop_assert_eq!(holds(&Receive { sku, quantity, state, stock }, Some(state)), state);
    }
}

#[test]
fn a_reason_names_the_short_line_and_its_figures() {
    let inputs = json!({
        "order_id": Uuid::nil(), "hold_seconds": 900, "now": "2026-01-02T03:04:05.000006Z",
        "lines": [
            {"sku": "85123A", "quantity": 6, "stock": {"version": 1, "on_hand": 10, "held": 6}},
            {"sku": "71053", "quantity": 6, "stock": {"version": 2, "on_hand": 6, "held": 0}},
        ],
    });
    let rule: Reserve = serde_json::from_value(inputs.clone()).unwrap();
    let verdict = rule.decide();
    assert_eq!(verdict.to, Status::Refused);
    assert_eq!(verdict.alternatives[0].to, "held");
    assert_eq!(verdict.alternatives[0].refused_because, "85123A: 6 requested > 4 available");
    assert_eq!(serde_json::to_value(&rule).unwrap(), inputs, "the recorded form is what was read");
}

#[test]
fn a_thousand_reasons_are_cut_to_ten() {
    let line = |n: i64| RequestedLine {
        sku: Sku::try_from(format!("sku-{n}")).unwrap(),
        quantity: Quantity::try_from(1).unwrap(),
        stock: None,
    };
    let rule = Reserve {
        order_id: Uuid::nil(),
        lines: (0..1_000).map(line).collect(),
        hold_seconds: HoldSeconds::try_from(1).unwrap(),
        now: OffsetDateTime::UNIX_EPOCH,
    };
    let because = &rule.decide().alternatives[0].refused_because;
    assert!(because.ends_with("sku-9; and 990 more"), "{because}");
}

#[test]
fn an_unknown_rule_and_inputs_that_do_not_fit_are_different_errors() {
    assert!(matches!(replay("inventory.reserve@9", &json!({})), Err(ReplayError::UnknownRule(_))));
    for name in NAMES {
        assert!(matches!(replay(name, &json!({"quantity": 1.5})), Err(ReplayError::Inputs { .. })), "{name}");
    }
}
