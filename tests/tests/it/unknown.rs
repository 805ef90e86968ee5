//! Tests of unknown outcomes: replies that are lost or make no sense.

use std::time::Duration;

use testkit::eventually;
use testkit::pair::TestPair;
use testkit::proxy::{Ending, Fault, When};

use crate::support::{RESOLVED, becomes, command, order, pair, path, problem, reserved, setup, sound, stock};

const SOON: Duration = Duration::from_millis(900);

/// Faults in which inventory's reply is lost or makes no sense.
fn silences() -> Vec<Fault> {
    vec![
        Fault::LoseReply(Ending::Reset),
        Fault::LoseReply(Ending::Close),
        Fault::LoseReply(Ending::Hang),
        Fault::CutReply { after: 90, ending: Ending::Close },
        Fault::ReplaceReply(Fault::nonsense(200)),
        Fault::ReplaceReply(Fault::nonsense(201)),
        Fault::ReplaceReply(Fault::nonsense(500)),
        Fault::ReplaceReply(Fault::nonsense(404)),
        Fault::ReplaceReply(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n".to_vec()),
        Fault::ReplaceReply(b"not even http\r\n\r\n".to_vec()),
    ]
}

#[tokio::test]
async fn a_reply_lost_after_the_effect_is_resolved_by_the_same_key() {
    let pair = pair().await;
    for (n, fault) in silences().into_iter().enumerate() {
        let what = fault.name();
        pair.hop().script(When::every("POST /v1/reservations"), fault);
        let placed = order(&pair, &[("A", 1)]).deadline(SOON).send().await.unwrap();
        assert_eq!(placed.status.as_u16(), 202, "{what}: {placed}");
        let id = placed.json()["id"].as_str().unwrap().to_owned();
        becomes(&pair, &id, "reserve_unknown").await;
        pair.hop().heal();
        becomes(&pair, &id, "reserved").await;
        assert_eq!(path(&pair, &id).await, ["reserving", "reserve_unknown", "reserved"], "{what}");
        assert_eq!(stock(&pair, "A").await, (1_000, i64::try_from(n).unwrap() + 1), "{what}: held once");
    }
    sound(&pair).await;
}

#[tokio::test]
async fn an_unknown_confirm_and_an_unknown_cancel_end_as_inventory_decided() {
    let pair = pair().await;
    for (name, unknown, done) in
        [("confirm", "confirm_unknown", "confirmed"), ("cancel", "cancel_unknown", "cancelled")]
    {
        let id = reserved(&pair, &[("B", 2)]).await;
        pair.hop().script(When::every("POST /v1/reservations/"), Fault::LoseReply(Ending::Reset));
        let key = format!("an-unknown-{name}-key");
        let reply = command(&pair, &id, name).key(&key).deadline(SOON).send().await.unwrap().expect(202);
        assert!(!reply.header("retry-after").is_empty());
        becomes(&pair, &id, unknown).await;
        if name == "confirm" {
            let refused = command(&pair, &id, "cancel").send().await.unwrap().expect(409);
            assert_eq!(
                problem(&refused),
                "illegal-transition",
                "an order past `confirming` cannot be cancelled"
            );
        }
        pair.hop().heal();
        becomes(&pair, &id, done).await;
        let replayed = command(&pair, &id, name).key(&key).send().await.unwrap().expect(200);
        assert!(replayed.is_replayed() && replayed.json()["status"] == done);
    }
    assert_eq!(stock(&pair, "B").await, (998, 0));
    sound(&pair).await;
}

#[tokio::test]
async fn a_call_that_was_not_executed_leaves_the_order_in_reserving() {
    let pair = pair().await;
    let refusal = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
        x-outcome: not-executed\r\nconnection: close\r\ncontent-length: 144\r\n\r\n";
    let body = r#"{"type":"urn:mainstay:problem:overloaded","title":"no room","status":503,"retryable":true,"same_key":true,"outcome":"not-executed"}"#;
    let mut answer = refusal.to_vec();
    let length = format!("content-length: {}", body.len());
    let text = String::from_utf8(answer.clone()).unwrap().replace("content-length: 144", &length);
    answer = [text.as_bytes(), body.as_bytes()].concat();
    pair.hop().script(When::every("POST /v1/reservations"), Fault::Answer(answer));
    let placed = order(&pair, &[("A", 1)]).send().await.unwrap().expect(202);
    let id = placed.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(placed.json()["status"], "reserving");
    pair.hop().heal();
    becomes(&pair, &id, "reserved").await;
    assert_eq!(path(&pair, &id).await, ["reserving", "reserved"], "no unknown state in between");
    sound(&pair).await;
}

#[tokio::test]
async fn a_request_delivered_twice_has_one_effect() {
    let pair = pair().await;
    for at_once in [false, true] {
        pair.hop().script(When::every("POST /v1/reservations"), Fault::Duplicate { at_once });
        let id = reserved(&pair, &[("C", 1)]).await;
        command(&pair, &id, "confirm").send().await.unwrap().expect(200);
        pair.hop().heal();
    }
    assert_eq!(stock(&pair, "C").await, (998, 0));
    sound(&pair).await;
}

#[tokio::test]
async fn an_operator_can_have_all_unresolved_orders_tried_now() {
    let pair = pair().await;
    pair.hop().close().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let reply = pair.client().post("/v1/orders").json(&TestPair::basket(&[("A", 1)])).deadline(SOON);
        ids.push(reply.send().await.unwrap().expect(202).json()["id"].as_str().unwrap().to_owned());
    }
    pair.hop().open().await;
    pair.ops(local::Service::Order, 0).post("/admin/v1/reconcile").send().await.unwrap().expect(200);
    for id in &ids {
        becomes(&pair, id, "reserved").await;
    }
    sound(&pair).await;
}

/// The order service's log lines about a waiting order: number of the try and reason. Waits for the try `last`.
async fn told(pair: &TestPair, id: &str, step: &str, last: u64) -> Vec<(u64, String)> {
    eventually(&format!("the log tells of try {last} of {step}"), RESOLVED, || async {
        let log = std::fs::read_to_string(pair.log_file(local::Service::Order, 0)).unwrap();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let ours = lines.filter(|l| l["order_id"] == id && l["step"] == step && l["level"] == "WARN");
        let told: Vec<_> =
            ours.map(|l| (l["tries"].as_u64().unwrap(), l["why"].as_str().unwrap().to_owned())).collect();
        if told.last().is_some_and(|(tries, _)| *tries >= last) { Ok(told) } else { Err(format!("{told:?}")) }
    })
    .await
}

#[tokio::test]
async fn the_log_says_why_an_order_waits_at_tries_1_2_and_4_and_not_at_3() {
    let home = local::TemporaryDirectory::create_in(&std::env::temp_dir()).unwrap();
    let revoked = home.path().join("revoked");
    std::fs::write(&revoked, "a-token-that-inventory-no-longer-takes").unwrap();
    let pair = setup().env(local::Service::Order, "INVENTORY_TOKEN_FILE", revoked).start().await.unwrap();
    let placed = order(&pair, &[("A", 1)]).send().await.unwrap().expect(202).json();
    let told = told(&pair, placed["id"].as_str().unwrap(), "reserve", 4).await;
    assert_eq!(told.iter().map(|(tries, _)| *tries).collect::<Vec<_>>(), [1, 2, 4], "{told:?}");
    assert!(told.iter().all(|(_, why)| why.starts_with("401")), "{told:?}");
}

#[tokio::test]
async fn the_log_says_why_an_order_stays_unknown_and_why_a_hold_is_not_ended() {
    let pair = setup().env(local::Service::Order, "HOLD_SECONDS", "1").start().await.unwrap();
    pair.stock("A", 10).await;
    let id = reserved(&pair, &[("A", 1)]).await;
    pair.hop().script(When::every("/v1/reservations"), Fault::Answer(Fault::nonsense(500)));
    let placed = order(&pair, &[("A", 1)]).deadline(SOON).send().await.unwrap().expect(202).json();
    let unknown = told(&pair, placed["id"].as_str().unwrap(), "reserve", 2).await;
    assert!(unknown[0].1.contains("500"), "{unknown:?}");
    // The reason can also be an open breaker, after enough such failures.
    let held = told(&pair, &id, "reservation", 2).await;
    assert!(held.iter().all(|(_, why)| !why.is_empty()), "{held:?}");
    pair.hop().heal();
    becomes(&pair, &id, "expired").await;
    sound(&pair).await;
}
