//! Tests of every legal move of a reservation, and of every refused one.

use inventory_service::app::CommandError;
use inventory_service::domain::Refusal;
use inventory_service::domain::{Status, TRANSITIONS};
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::{PATIENCE, Stage, ask, body, problem, reserve};

#[tokio::test]
async fn a_reserve_holds_every_line_until_its_end() {
    let stage = Stage::with(&[("a", 10), ("b", 5)]).await;
    let (id, ask) = (Uuid::now_v7(), ask());
    let reply = stage.reserve(ask.clone(), id, &[("b", 5), ("a", 4)]).await.unwrap();
    assert_eq!(reply.stored.status, 201);
    assert_eq!(reply.stored.location, Some(format!("/v1/reservations/{id}")));
    let body = body(&reply);
    assert_eq!(body["status"], "held");
    assert_eq!(body["lines"], json!([{"sku": "b", "quantity": 5}, {"sku": "a", "quantity": 4}]));
    assert_eq!((stage.stock("a").await, stage.stock("b").await), ((10, 4), (5, 5)));

    let entry = stage.entries(Some(id)).await.remove(0);
    assert_eq!(Some(entry.id), reply.entry_id);
    assert_eq!(entry.rule, "inventory.reserve@1");
    assert_eq!(entry.command, "reserve");
    assert_eq!(entry.principal, "order-service");
    assert_eq!(entry.correlation_id, ask.context.correlation_id.as_str());
    assert_eq!(entry.trace_id.as_deref(), Some(&*ask.context.trace.trace_id_hex()));
    assert_eq!(entry.inputs["lines"][1]["stock"], json!({"version": 1, "on_hand": 10, "held": 0}));
    let read = stage.app.store.reservation(id, Instant::now() + PATIENCE).await.unwrap().unwrap();
    assert_eq!(read.reservation.expires_at.unwrap().unix_timestamp() - 900, {
        let now = entry.inputs["now"].as_str().unwrap();
        let rfc3339 = &time::format_description::well_known::Rfc3339;
        time::OffsetDateTime::parse(now, rfc3339).unwrap().unix_timestamp()
    });
    stage.assert_sound().await;
}

#[tokio::test]
async fn one_short_line_refuses_the_whole_and_the_reply_says_by_how_much() {
    let stage = Stage::with(&[("a", 10), ("b", 5), ("c", 0)]).await;
    stage.hold(&[("b", 2)]).await;
    let id = Uuid::now_v7();
    let reply = stage.reserve(ask(), id, &[("a", 1), ("b", 4), ("c", 1)]).await.unwrap();
    assert_eq!((reply.stored.status, problem(&reply).as_str()), (409, "insufficient-stock"));
    let body = body(&reply);
    let short = json!([
        {"sku": "b", "requested": 4, "available": 3},
        {"sku": "c", "requested": 1, "available": 0},
    ]);
    assert_eq!(body["short_lines"], short);
    assert_eq!((&body["outcome"], &body["retryable"]), (&json!("refused"), &json!(false)));
    assert_eq!(stage.stock("a").await, (10, 0), "no line was held");
    assert_eq!(stage.path(id).await, ["refused"]);
    stage.assert_sound().await;
}

#[tokio::test]
async fn an_unknown_sku_refuses_the_whole_and_is_named() {
    let stage = Stage::with(&[("a", 10)]).await;
    let id = Uuid::now_v7();
    let reply = stage.reserve(ask(), id, &[("x", 1), ("a", 99), ("y", 1)]).await.unwrap();
    assert_eq!((reply.stored.status, problem(&reply).as_str()), (422, "unknown-sku"));
    assert_eq!(body(&reply)["skus"], json!(["x", "y"]));
    assert_eq!(stage.path(id).await, ["refused"]);
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_refused_reservation_stays_refused_under_another_key_although_stock_was_received() {
    let stage = Stage::with(&[("a", 1)]).await;
    let id = Uuid::now_v7();
    let first = stage.reserve(ask(), id, &[("a", 2)]).await.unwrap();
    stage.receive(ask(), "a", 100).await.unwrap();
    let again = stage.reserve(ask(), id, &[("a", 2)]).await.unwrap();
    assert!(!again.replayed);
    assert_eq!((again.stored.status, again.entry_id), (409, first.entry_id));
    assert_eq!(body(&again)["short_lines"], body(&first)["short_lines"]);
    assert_eq!(stage.path(id).await, ["refused"]);
}

#[tokio::test]
async fn a_confirm_ships_the_held_stock() {
    let stage = Stage::with(&[("a", 10)]).await;
    let id = stage.hold(&[("a", 4)]).await;
    let reply = stage.confirm(ask(), id).await.unwrap();
    assert_eq!((reply.stored.status, &body(&reply)["status"]), (200, &json!("confirmed")));
    assert_eq!(stage.stock("a").await, (6, 0));
    assert_eq!(stage.path(id).await, ["held", "confirmed"]);
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_release_gives_the_held_stock_back() {
    let stage = Stage::with(&[("a", 10)]).await;
    let id = stage.hold(&[("a", 4)]).await;
    let reply = stage.release(ask(), id).await.unwrap();
    assert_eq!((reply.stored.status, &body(&reply)["status"]), (200, &json!("released")));
    assert_eq!(stage.stock("a").await, (10, 0));
    assert_eq!(stage.path(id).await, ["held", "released"]);
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_release_that_overtakes_its_reserve_makes_inventory_reject_the_reserve() {
    let stage = Stage::with(&[("a", 10)]).await;
    let id = Uuid::now_v7();
    let voided = stage.release(ask(), id).await.unwrap();
    assert_eq!((voided.stored.status, &body(&voided)["status"]), (200, &json!("voided")));
    assert_eq!(body(&voided)["order_id"], json!(null));
    let late = stage.reserve(ask(), id, &[("a", 1)]).await.unwrap();
    assert_eq!((late.stored.status, problem(&late).as_str()), (409, "reservation-voided"));
    assert_eq!(late.entry_id, voided.entry_id);
    assert_eq!(stage.stock("a").await, (10, 0));
    assert_eq!(stage.path(id).await, ["voided"]);
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_confirm_after_the_end_expires_the_hold_in_the_same_transaction() {
    let stage = Stage::with(&[("a", 10)]).await;
    let id = stage.hold(&[("a", 4)]).await;
    stage.let_end(id).await;
    assert_eq!(stage.status(id).await.unwrap(), "held", "only a decision of inventory changes the state");
    let reply = stage.confirm(ask(), id).await.unwrap();
    assert_eq!((reply.stored.status, problem(&reply).as_str()), (410, "reservation-expired"));
    assert_eq!(stage.status(id).await.unwrap(), "expired");
    assert_eq!(stage.stock("a").await, (10, 0));
    let entry = stage.entries(Some(id)).await.remove(1);
    assert_eq!((&*entry.command, &*entry.rule), ("confirm", "inventory.confirm@1"));
    assert_eq!(entry.alternatives[0].to, "confirmed");
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_confirm_of_an_unknown_reservation_is_not_found_and_claims_no_key() {
    let stage = Stage::with(&[("a", 1)]).await;
    let (id, ask) = (Uuid::now_v7(), ask());
    let refused = stage.confirm(ask.clone(), id).await.unwrap_err();
    assert!(matches!(refused, CommandError::NotYet(r) if matches!(*r, Refusal::NoReservation(_))));
    stage.reserve(crate::support::ask(), id, &[("a", 1)]).await.unwrap();
    assert_eq!(stage.confirm(ask, id).await.unwrap().stored.status, 200, "the key is still free");
}

/// Runs each command in each state of a reservation, and compares HTTP status, problem and next state.
#[tokio::test]
async fn every_command_has_its_documented_answer_in_every_state() {
    use Status as S;
    let stage = Stage::with(&[("a", 1_000)]).await;
    for state in S::ALL {
        let name = journal::State::as_str(state);
        for (command, expected) in [
            (
                "reserve",
                match state {
                    S::Held => (200, None, "held"),
                    S::Confirmed => (409, Some("illegal-transition"), "confirmed"),
                    S::Released => (409, Some("illegal-transition"), "released"),
                    S::Expired => (409, Some("illegal-transition"), "expired"),
                    S::Refused => (409, Some("insufficient-stock"), "refused"),
                    S::Voided => (409, Some("reservation-voided"), "voided"),
                },
            ),
            (
                "confirm",
                match state {
                    S::Held | S::Confirmed => (200, None, "confirmed"),
                    S::Expired => (410, Some("reservation-expired"), "expired"),
                    S::Released | S::Refused | S::Voided => (409, Some("illegal-transition"), name),
                },
            ),
            (
                "release",
                match state {
                    S::Held => (200, None, "released"),
                    S::Confirmed => (409, Some("illegal-transition"), "confirmed"),
                    S::Released | S::Expired | S::Refused | S::Voided => (200, None, name),
                },
            ),
        ] {
            let id = in_state(&stage, state).await;
            let before = stage.path(id).await;
            let reply = match command {
                "reserve" => stage.reserve(ask(), id, &[("a", quantity(state))]).await,
                "confirm" => stage.confirm(ask(), id).await,
                _ => stage.release(ask(), id).await,
            };
            let reply = reply.unwrap();
            let kind = (reply.stored.status >= 400).then(|| problem(&reply));
            let after = stage.status(id).await.unwrap();
            assert_eq!(
                (reply.stored.status, kind.as_deref(), after.as_str()),
                expected,
                "{command} of {name}"
            );
            let entries = stage.entries(Some(id)).await;
            assert_eq!(reply.entry_id, entries.last().map(|e| e.id), "{command} of {name}");
            assert_eq!(entries.len() - before.len(), usize::from(after != name), "no move, no entry");
            if kind.as_deref() == Some("illegal-transition") {
                let body = body(&reply);
                assert_eq!((&body["from"], &body["allowed"]), (&json!(name), &json!([])));
                assert_eq!(body["retryable"], false, "nothing leaves a terminal state");
            }
        }
    }
    stage.assert_sound().await;
}

/// Pieces of the line: for a refused reservation more than the stock.
fn quantity(state: Status) -> i64 {
    if state == Status::Refused { 1_000_000 } else { 1 }
}

async fn in_state(stage: &Stage, state: Status) -> Uuid {
    let id = Uuid::now_v7();
    if state != Status::Voided {
        stage.reserve(ask(), id, &[("a", quantity(state))]).await.unwrap();
    }
    match state {
        Status::Held | Status::Refused => {}
        Status::Confirmed => assert_eq!(stage.confirm(ask(), id).await.unwrap().stored.status, 200),
        Status::Released | Status::Voided => {
            assert_eq!(stage.release(ask(), id).await.unwrap().stored.status, 200);
        }
        Status::Expired => {
            stage.let_end(id).await;
            assert_eq!(stage.app.expire_due("test").await.unwrap(), 1);
        }
    }
    assert_eq!(stage.status(id).await.as_deref(), Some(journal::State::as_str(state)));
    id
}

#[tokio::test]
async fn a_held_id_cannot_be_reserved_for_anything_else_and_that_refusal_is_not_final() {
    let stage = Stage::with(&[("a", 10)]).await;
    let id = stage.hold(&[("a", 1)]).await;
    let keys = stage.keys().await;
    let mut others = [reserve(id, &[("a", 2)]), reserve(id, &[("a", 1)]), reserve(id, &[("a", 1)])];
    others[1].order_id = Uuid::now_v7();
    others[2].hold_seconds = 1.try_into().unwrap();
    for other in others {
        let refused = stage.app.reserve(ask(), other).await.unwrap_err();
        assert!(matches!(refused, CommandError::NotYet(r) if *r == Refusal::HeldOtherwise { id }));
    }
    assert_eq!(stage.keys().await, keys);
    assert_eq!(stage.path(id).await, ["held"]);
}

#[tokio::test]
async fn an_order_has_at_most_one_held_or_confirmed_reservation() {
    let stage = Stage::with(&[("a", 10)]).await;
    let first = stage.hold(&[("a", 1)]).await;
    let mut second = reserve(Uuid::now_v7(), &[("a", 1)]);
    second.order_id = Uuid::new_v5(&first, b"order");
    let ask = ask();
    let refused = stage.app.reserve(ask.clone(), second.clone()).await.unwrap_err();
    assert!(matches!(refused, CommandError::NotYet(r) if matches!(*r, Refusal::OrderHasAnother { .. })));
    stage.release(crate::support::ask(), first).await.unwrap();
    assert_eq!(stage.app.reserve(ask, second).await.unwrap().stored.status, 201);
    stage.assert_sound().await;
}

#[tokio::test]
async fn the_database_allows_exactly_the_moves_that_the_domain_lists() {
    let stage = Stage::new().await;
    let rows: Vec<(String, String, String)> =
        sqlx::query_as("SELECT aggregate_kind, from_state, to_state FROM transitions ORDER BY 1, 2, 3")
            .fetch_all(&stage.admin)
            .await
            .unwrap();
    let listed = TRANSITIONS.map(|(kind, from, to)| (kind.to_owned(), from.to_owned(), to.to_owned()));
    assert_eq!(rows, listed);
}
