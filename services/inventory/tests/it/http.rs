//! Tests of the public API over real sockets.

use std::time::Duration;

use inventory_api::{
    Answer, CallContext, InventoryClient, Refusal, ReserveRequest, Subject, X_CAUSATION_ID, X_HYBRID_CLOCK,
};
use mainstay::RequestContext;
use mainstay::client::{ClientConfig, HyperTransport, TransportConfig};
use mainstay::headers::X_OUTCOME;
use serde_json::json;
use testkit::eventually;
use uuid::Uuid;

use crate::served::{Served, reply, reserve_body};
use crate::support::PATIENCE;

#[tokio::test]
async fn a_replay_is_byte_for_byte_the_first_reply_with_the_current_correlation_id_in_its_header() {
    let served = Served::with(&[("a", 10)]).await;
    let id = Uuid::now_v7();
    for (what, status) in [("reserve", 201), ("confirm", 200), ("refused", 409)] {
        let key = format!("the key of one {what}");
        let call = || match what {
            "reserve" => served.reserve(id, "a", 1),
            "confirm" => served.confirm(id),
            _ => served.reserve(Uuid::new_v5(&id, b"refused"), "a", 1_000),
        };
        let first = reply(call().key(&key).correlation("first")).await.expect(status);
        let again = reply(call().key(&format!("\"{key}\"")).correlation("again")).await.expect(status);
        assert_eq!(again.body, first.body);
        for name in ["content-type", "location", "x-entry-id", "x-outcome"] {
            assert_eq!(again.header(name), first.header(name), "{name}");
        }
        assert!(again.is_replayed() && !first.is_replayed());
        assert_eq!((first.header("x-correlation-id"), again.header("x-correlation-id")), ("first", "again"));
        assert!(!first.header("x-entry-id").is_empty());
        assert!(again.header("x-hybrid-clock") > first.header("x-hybrid-clock"));
    }
    let reused =
        reply(served.reserve(Uuid::now_v7(), "a", 1).key("the key of one reserve")).await.expect(422);
    assert_eq!(reused.problem().as_deref(), Some("idempotency-key-reused"));
    let elsewhere = reply(served.release(id).key("the key of one reserve")).await.expect(422);
    assert_eq!(elsewhere.problem().as_deref(), Some("idempotency-key-reused"));
}

#[tokio::test]
async fn white_space_and_the_order_of_members_do_not_make_a_different_request() {
    let served = Served::with(&[]).await;
    let send = |body: &'static str| {
        let call = served.operator.post("/v1/items").key("a key for one creation");
        call.header(&http::header::CONTENT_TYPE, "application/json; charset=utf-8").body(body)
    };
    reply(send(r#"{"sku": "a", "on_hand": 3}"#)).await.expect(201);
    assert!(reply(send(r#"  {"on_hand":3,"sku":"a"}"#)).await.expect(201).is_replayed());
    reply(send(r#"{"sku": "a", "on_hand": 4}"#)).await.expect(422);
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let served = Served::with(&[]).await;
    let body = json!({
        "reservation_id": Uuid::nil(), "order_id": Uuid::nil(), "hold_seconds": 0,
        "lines": [{"sku": "", "quantity": 1}, {"sku": "a", "quantity": 0}, {"sku": "a", "quantity": 1}],
    });
    let refused = reply(served.service.post("/v1/reservations").json(&body)).await.expect(422);
    let errors = refused.json()["errors"].clone();
    let fields: Vec<_> = errors.as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["lines[0].sku", "lines[1].quantity", "lines[2].sku", "hold_seconds"]);
    let body = json!({"sku": " a", "name": "a\nb", "on_hand": -1});
    let refused = reply(served.operator.post("/v1/items").json(&body)).await.expect(422);
    let errors = refused.json()["errors"].clone();
    let fields: Vec<_> = errors.as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["sku", "name", "on_hand"]);
    assert_eq!(served.stage.keys().await, 0, "a refused request claims nothing");
}

#[tokio::test]
async fn the_journal_has_the_cause_and_clock_of_a_request_unless_they_are_malformed() {
    let served = Served::with(&[("a", 10)]).await;
    let (id, cause) = (Uuid::now_v7(), Uuid::now_v7());
    let clock = reply(served.confirm(Uuid::nil())).await.header("x-hybrid-clock").to_owned();
    let call = served.reserve(id, "a", 1).correlation("story-1");
    let call = call.header(&X_CAUSATION_ID, cause.to_string()).header(&X_HYBRID_CLOCK, clock.clone());
    let held = reply(call).await.expect(201);
    let entry = served.stage.entries(Some(id)).await.remove(0);
    assert_eq!((entry.causation_id, &*entry.correlation_id), (Some(cause), "story-1"));
    assert!(entry.hlc.to_string() > clock);
    assert_eq!(entry.id.to_string(), held.header("x-entry-id"));
    let wire: ReserveRequest = serde_json::from_value(reserve_body(id, "a", 1)).unwrap();
    let payload_hash = journal::hex(&journal::entry::payload_hash(&wire));
    assert_eq!(entry.payload_hash.as_deref(), Some(&*payload_hash), "the sender can compute it too");
    let call = served.confirm(id).header(&X_CAUSATION_ID, "nonsense").header(&X_HYBRID_CLOCK, "soon");
    reply(call).await.expect(200);
    assert_eq!(served.stage.entries(Some(id)).await[1].causation_id, None);
}

#[tokio::test]
async fn a_client_that_disconnects_cancels_nothing() {
    let served = Served::with(&[("a", 10)]).await;
    let id = Uuid::now_v7();
    let mut holder = served.stage.admin.begin().await.unwrap();
    sqlx::query("SELECT FROM items FOR UPDATE").execute(&mut *holder).await.unwrap();
    let key = "the key of a client that left";
    let left = served.reserve(id, "a", 1).key(key);
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    tokio::select! {
        answer = left.send() => panic!("answered while its item was locked: {answer:?}"),
        () = eventually("the request waits for the lock", PATIENCE, || async {
            sqlx::query_scalar::<_, i64>(waiting).fetch_one(&served.stage.admin).await.unwrap() == 1
        }) => {}
    }
    holder.rollback().await.unwrap();
    eventually("the reservation is held", PATIENCE, || async {
        served.stage.status(id).await.as_deref() == Some("held")
    })
    .await;
    assert!(reply(served.reserve(id, "a", 1).key(key)).await.expect(201).is_replayed());
}

#[tokio::test]
async fn a_deadline_that_passes_during_a_command_leaves_the_outcome_unknown_until_the_key_is_repeated() {
    let served = Served::with(&[("a", 10)]).await;
    let mut holder = served.stage.admin.begin().await.unwrap();
    sqlx::query("SELECT FROM items FOR UPDATE").execute(&mut *holder).await.unwrap();
    let id = Uuid::now_v7();
    let key = "the key of a short deadline";
    let call = served.reserve(id, "a", 1).key(key).deadline(Duration::from_millis(400));
    let over = tokio::time::Instant::now() + Duration::from_millis(500);
    let late = reply(call).await.expect(504);
    assert_eq!(late.problem().as_deref(), Some("deadline-exceeded"));
    assert_eq!((late.header(X_OUTCOME.as_str()), &late.json()["same_key"]), ("unknown", &json!(true)));
    tokio::time::sleep_until(over).await;
    holder.rollback().await.unwrap();
    let repeat = reply(served.reserve(id, "a", 1).key(key)).await.expect(201);
    assert!(!repeat.is_replayed(), "it got the lock after the deadline, so it was rolled back");
    assert_eq!(served.stage.stock("a").await, (10, 1));
    served.stage.assert_sound().await;
}

#[tokio::test]
async fn the_typed_client_understands_every_answer() {
    let served = Served::with(&[("a", 10)]).await;
    let stack = mainstay::client::stack(
        ClientConfig::new("inventory"),
        HyperTransport::new(&TransportConfig::default()),
    )
    .unwrap();
    let client = InventoryClient::new(stack, &served.base, "a-token-of-the-service").unwrap();
    let context = || CallContext {
        request: RequestContext::background(Duration::from_secs(10)),
        key: Uuid::now_v7(),
        causation_id: None,
        clock: "0000000000000000".to_owned(),
        is_repeat: false,
    };
    let request = |id, sku: &str, quantity| -> ReserveRequest {
        serde_json::from_value(reserve_body(id, sku, quantity)).unwrap()
    };
    let subject = |id| {
        let ReserveRequest { reservation_id, order_id, lines, .. } = request(id, "a", 3);
        Subject { reservation_id, order_id, lines }
    };
    let id = Uuid::now_v7();
    let held = client.reserve(context(), &request(id, "a", 3)).await;
    let Answer::Applied(reservation) = held.answer else { panic!("{held:?}") };
    assert!(reservation.expires_at.is_some() && held.entry_id.is_some() && held.clock.is_some());
    let short = client.reserve(context(), &request(Uuid::now_v7(), "a", 8)).await.answer;
    let Answer::Refused(Refusal::InsufficientStock(lines)) = short else { panic!("{short:?}") };
    assert_eq!((lines[0].requested, lines[0].available), (8, 7));
    let unknown = client.reserve(context(), &request(Uuid::now_v7(), "x", 8)).await.answer;
    assert_eq!(unknown, Answer::Refused(Refusal::UnknownSku(vec!["x".to_owned()])));
    let unseen = client.confirm(context(), subject(Uuid::now_v7())).await.answer;
    assert_eq!(unseen, Answer::Refused(Refusal::NotFound));
    assert!(matches!(client.confirm(context(), subject(id)).await.answer, Answer::Applied(_)));
    let late = client.release(context(), subject(id)).await;
    assert_eq!(late.answer, Answer::Refused(Refusal::IllegalTransition("confirmed".to_owned())));
    assert!(late.entry_id.is_some());
    let voided = Uuid::now_v7();
    assert!(matches!(client.release(context(), subject(voided)).await.answer, Answer::Applied(_)));
    let shut = client.reserve(context(), &request(voided, "a", 1)).await.answer;
    assert_eq!(shut, Answer::Refused(Refusal::ReservationVoided));
    let ended = Uuid::now_v7();
    client.reserve(context(), &request(ended, "a", 1)).await;
    served.stage.let_end(ended).await;
    assert_eq!(
        client.confirm(context(), subject(ended)).await.answer,
        Answer::Refused(Refusal::ReservationExpired)
    );
    let read = client.reservation(context(), subject(ended)).await;
    assert!(matches!(read.answer, Answer::Applied(_)) && read.entry_id.is_some());
}

#[tokio::test]
async fn the_description_and_its_page_are_served_without_a_token() {
    let served = Served::with(&[]).await;
    let document = reply(served.anonymous.get("/openapi.json")).await.expect(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["info"]["title"], "Mainstay inventory service");
    assert!(document["paths"]["/v1/reservations/{id}/confirm"].is_object());
    let page = reply(served.anonymous.get("/docs/")).await.expect(200);
    assert!(String::from_utf8_lossy(&page.body).contains("swagger-ui"));
    reply(served.anonymous.get("/v1/nothing")).await.expect(404);
    reply(served.operator.put("/v1/items")).await.expect(405);
}
