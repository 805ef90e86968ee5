//! Tests of two requests at once, in both orders.

use std::time::Duration;

use futures_util::future::join_all;
use local::Service;
use serde_json::json;
use testkit::eventually;
use testkit::pair::{TestPair, Who};
use testkit::proxy::{Fault, Point, When};

use crate::support::{
    RESOLVED, becomes, command, order, pair, path, patiently, problem, reserved, setup, sound, stock,
};

#[tokio::test]
async fn a_cancel_that_overtakes_its_reserve_leaves_nothing_held() {
    let pair = pair().await;
    pair.hop().script(When::next("POST /v1/reservations"), Fault::Hold(Point::Request));
    let key = "placed-and-overtaken-01";
    let placed = order(&pair, &[("A", 7)])
        .key(key)
        .deadline(Duration::from_millis(700))
        .send()
        .await
        .unwrap()
        .expect(202);
    let id = placed.json()["id"].as_str().unwrap().to_owned();
    // The release arrives first, so inventory voids the reservation before its reserve arrives.
    let cancelled = command(&pair, &id, "cancel").send().await.unwrap();
    assert!(matches!(cancelled.status.as_u16(), 200 | 202), "{cancelled}");
    becomes(&pair, &id, "cancelled").await;
    pair.hop().release_all();
    eventually("the late reserve has arrived", RESOLVED, || async {
        pair.hop().exchanges().iter().any(|e| e.delivered > 0 && e.fault == Some("hold"))
    })
    .await;
    let ended = order(&pair, &[("A", 7)]).key(key).send().await.unwrap().expect(409);
    assert_eq!((problem(&ended).as_str(), &ended.json()["order_id"]), ("order-cancelled", &json!(id)));
    assert_eq!(stock(&pair, "A").await, (1_000, 0));
    sound(&pair).await;
}

#[tokio::test]
async fn a_cancel_after_a_reserve_whose_reply_was_lost_gives_the_stock_back() {
    let pair = pair().await;
    pair.hop().script(When::every("POST /v1/reservations"), Fault::Hold(Point::Reply));
    let placed =
        order(&pair, &[("A", 7)]).deadline(Duration::from_millis(700)).send().await.unwrap().expect(202);
    let id = placed.json()["id"].as_str().unwrap().to_owned();
    eventually("inventory holds it", RESOLVED, || async { stock(&pair, "A").await == (1_000, 7) }).await;
    pair.hop().heal();
    let cancelled = command(&pair, &id, "cancel").send().await.unwrap();
    assert!(matches!(cancelled.status.as_u16(), 200 | 202), "{cancelled}");
    becomes(&pair, &id, "cancelled").await;
    pair.hop().release_all();
    assert_eq!(stock(&pair, "A").await, (1_000, 0));
    sound(&pair).await;
}

#[tokio::test]
async fn of_a_confirm_and_a_cancel_at_once_exactly_one_succeeds() {
    let pair = pair().await;
    for _ in 0..15 {
        let id = reserved(&pair, &[("A", 1)]).await;
        let (one, other) =
            tokio::join!(command(&pair, &id, "confirm").send(), command(&pair, &id, "cancel").send());
        let ok = [one.unwrap(), other.unwrap()].iter().filter(|r| r.status.as_u16() == 200).count();
        assert_eq!(ok, 1, "exactly one succeeds");
    }
    sound(&pair).await;
}

#[tokio::test]
async fn a_confirm_at_the_end_of_the_hold_is_confirmed_or_expired() {
    let pair = setup().env(Service::Order, "HOLD_SECONDS", "1").start().await.unwrap();
    pair.stock("A", 1_000).await;
    let ids = join_all((0..20).map(|_| reserved(&pair, &[("A", 1)]))).await;
    let ends = ids.iter().enumerate().map(|(n, id)| {
        let pair = &pair;
        async move {
            // The confirms are spread over the second in which the holds end, so that some come before the end and some after.
            let due = Duration::from_millis(600 + 40 * u64::try_from(n).unwrap());
            tokio::time::sleep(due).await;
            command(pair, id, "confirm").send().await.unwrap()
        }
    });
    for (id, reply) in ids.iter().zip(join_all(ends).await) {
        match reply.status.as_u16() {
            200 => assert_eq!(path(&pair, id).await.last().unwrap(), "confirmed"),
            410 => assert_eq!(problem(&reply), "reservation-expired"),
            202 => {}
            _ => panic!("{reply}"),
        }
    }
    sound(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_of_each_service_share_the_work_and_duplicate_nothing() {
    let pair = setup().replicas(2, 2).start().await.unwrap();
    pair.stock("A", 60).await;
    pair.stock("B", 1_000).await;
    let orders = (0..80).map(|n| {
        let client = pair.client_of(Service::Order, n % 2, Who::Client);
        let basket = TestPair::basket(if n % 3 == 0 { &[("B", 1), ("A", 1)] } else { &[("A", 1), ("B", 1)] });
        async move { patiently(|| client.post("/v1/orders").json(&basket)).await.status.as_u16() }
    });
    let statuses = join_all(orders).await;
    assert!(statuses.iter().all(|s| matches!(s, 201 | 202 | 409)), "{statuses:?}");
    pair.settle(RESOLVED).await;
    assert_eq!(stock(&pair, "A").await, (60, 60), "all the stock and no more is held");
    sound(&pair).await;
}

#[tokio::test]
async fn one_key_at_two_replicas_places_one_order() {
    let pair = setup().replicas(2, 1).start().await.unwrap();
    pair.stock("A", 10).await;
    let calls =
        (0..8).map(|n| {
            let client = pair.client_of(Service::Order, n % 2, Who::Client);
            let basket = TestPair::basket(&[("A", 1)]);
            async move {
                patiently(|| client.post("/v1/orders").key("one-key-at-two-replicas").json(&basket)).await
            }
        });
    for reply in join_all(calls).await {
        // The reply is 202 when a busy machine has not decided the order yet.
        assert!(matches!(reply.status.as_u16(), 201 | 202 | 409), "{reply}");
    }
    pair.settle(RESOLVED).await;
    assert_eq!(stock(&pair, "A").await, (10, 1));
    sound(&pair).await;
}
