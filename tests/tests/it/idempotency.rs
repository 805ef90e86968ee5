//! Tests that one key has one effect and one reply.

use std::time::Duration;

use futures_util::future::join_all;
use local::Service;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use testkit::eventually;
use testkit::pair::{TestPair, Who};
use testkit::proxy::{Ending, Fault, When};

use crate::support::{
    RESOLVED, becomes, command, order, pair, patiently, problem, reserved, setup, sound, stock,
};

#[tokio::test]
async fn a_repeat_is_replayed_byte_for_byte() {
    let pair = pair().await;
    let call = || order(&pair, &[("A", 2)]).key("the-same-key-for-both");
    let first = call().correlation("first").send().await.unwrap().expect(201);
    let second = call().correlation("second").send().await.unwrap().expect(201);
    assert!(!first.is_replayed() && second.is_replayed());
    assert_eq!(first.body, second.body);
    assert_eq!(first.header("location"), second.header("location"));
    assert_eq!(second.header("x-correlation-id"), "second", "the header has the id of the present request");
    assert_eq!(second.json()["correlation_id"], "first", "the body has the id of the first request");
    assert_eq!(stock(&pair, "A").await, (1_000, 2), "held once");
    // A refusal is a final reply too.
    let refused = || order(&pair, &[("A", 999_999)]).key("the-same-key-for-refusals").send();
    let (first, second) = (refused().await.unwrap().expect(409), refused().await.unwrap().expect(409));
    assert!(second.is_replayed() && first.body == second.body);
    sound(&pair).await;
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_principal() {
    let pair = pair().await;
    let key = "a-key-of-one-client-0001";
    order(&pair, &[("A", 1)]).key(key).send().await.unwrap().expect(201);
    let other = order(&pair, &[("A", 2)]).key(key).send().await.unwrap().expect(422);
    assert_eq!(problem(&other), "idempotency-key-reused");
    let id = reserved(&pair, &[("B", 1)]).await;
    let elsewhere = command(&pair, &id, "confirm").key(key).send().await.unwrap().expect(422);
    assert_eq!(problem(&elsewhere), "idempotency-key-reused");
    // Another principal's use of the same key is invisible.
    let stranger = pair.client_of(Service::Order, 0, Who::Other);
    let basket = TestPair::basket(&[("C", 1)]);
    let theirs = stranger.post("/v1/orders").json(&basket).key(key).send().await.unwrap().expect(201);
    assert!(!theirs.is_replayed());
    sound(&pair).await;
}

#[tokio::test]
async fn of_many_repeats_at_once_one_does_the_work_and_the_others_get_in_flight_or_its_reply() {
    let pair = pair().await;
    let call = || order(&pair, &[("A", 1)]).key("twelve-at-the-same-time");
    let replies = join_all((0..12).map(|_| patiently(call))).await;
    let mut finals = Vec::new();
    for reply in replies {
        match reply.status.as_u16() {
            201 => finals.push(reply.body),
            // On a busy machine the order is not decided yet.
            202 => {}
            409 => {
                assert_eq!(problem(&reply), "idempotency-in-flight");
                assert_eq!(reply.header("retry-after"), "1");
            }
            _ => panic!("{reply}"),
        }
    }
    pair.settle(RESOLVED).await;
    let last = patiently(call).await.expect(201);
    assert!(finals.iter().all(|body| *body == last.body));
    assert_eq!(stock(&pair, "A").await, (1_000, 1));
    sound(&pair).await;
}

#[tokio::test]
async fn a_202_is_never_final_and_its_key_later_gets_the_final_reply() {
    let pair = pair().await;
    pair.hop().script(When::every("POST /v1/reservations"), Fault::LoseReply(Ending::Reset));
    let call = || order(&pair, &[("A", 1)]).key("unknown-for-a-while-0001").deadline(Duration::from_secs(1));
    let first = call().send().await.unwrap().expect(202);
    assert!(!first.is_replayed());
    let id = first.json()["id"].as_str().unwrap().to_owned();
    becomes(&pair, &id, "reserve_unknown").await;
    let again = call().send().await.unwrap().expect(202);
    assert_eq!(again.json()["status"], "reserve_unknown");
    pair.hop().heal();
    becomes(&pair, &id, "reserved").await;
    let (one, two) = (call().send().await.unwrap().expect(201), call().send().await.unwrap().expect(201));
    assert!(one.is_replayed() && two.is_replayed() && one.body == two.body);
    assert_eq!(one.json()["status"], json!("reserved"));
    assert_eq!(stock(&pair, "A").await, (1_000, 1), "held once");
    sound(&pair).await;
}

#[tokio::test]
async fn a_conflict_with_an_order_in_a_non_terminal_state_is_not_stored() {
    let pair = pair().await;
    pair.hop().script(When::every("POST /v1/reservations"), Fault::LoseReply(Ending::Reset));
    let placed =
        order(&pair, &[("A", 1)]).deadline(Duration::from_millis(800)).send().await.unwrap().expect(202);
    let id = placed.json()["id"].as_str().unwrap().to_owned();
    becomes(&pair, &id, "reserve_unknown").await;
    let call = || command(&pair, &id, "confirm").key("confirm-too-early-0001");
    let early = call().send().await.unwrap().expect(409);
    assert_eq!((problem(&early).as_str(), &early.json()["retryable"]), ("illegal-transition", &json!(true)));
    pair.hop().heal();
    becomes(&pair, &id, "reserved").await;
    call().send().await.unwrap().expect(200);
    sound(&pair).await;
}

#[tokio::test]
async fn both_services_delete_old_keys_of_aggregates_at_rest() {
    let mut pair = setup().start().await.unwrap();
    pair.stock("A", 10).await;
    let confirmed = reserved(&pair, &[("A", 1)]).await;
    command(&pair, &confirmed, "confirm").send().await.unwrap().expect(200);
    let kept = reserved(&pair, &[("A", 1)]).await;
    for service in Service::BOTH {
        pair.stop(service, 0).await;
        let mut admin = PgConnection::connect_with(&pair.database(service).admin()).await.unwrap();
        let older = "UPDATE idempotency SET completed_at = completed_at - interval '8 days'";
        sqlx::query(older).execute(&mut admin).await.unwrap();
        pair.start(service, 0).await.unwrap();
        let database = pair.database(service).admin();
        eventually(&format!("{service} has one key left"), RESOLVED, || async {
            let mut admin = PgConnection::connect_with(&database).await?;
            let keys = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM idempotency").fetch_one(&mut admin);
            match keys.await? {
                1 => Ok(()),
                keys => Err(anyhow::anyhow!("there are {keys}")),
            }
        })
        .await;
    }
    command(&pair, &kept, "confirm").send().await.unwrap().expect(200);
}
