//! Tests of processes that die while a command is in flight.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use local::Service;
use testkit::eventually;
use testkit::http::{Client, Unanswered};
use testkit::pair::TestPair;
use testkit::proxy::{Fault, Point, When};

use crate::support::{RESOLVED, order, pair, path, reserved, sound, stock};

#[tokio::test]
async fn a_service_killed_between_its_intent_and_its_call_finishes_the_order_after_its_restart() {
    let mut pair = pair().await;
    pair.hop().script(When::next("POST /v1/reservations"), Fault::Hold(Point::Request));
    let key = "killed-after-the-intent";
    let placing = tokio::spawn(order(&pair, &[("A", 2)]).key(key).send());
    eventually("the call is on its way", RESOLVED, || async { !pair.hop().held().is_empty() }).await;
    pair.kill(Service::Order, 0).await;
    assert!(placing.await.unwrap().is_err(), "the client gets no reply");
    pair.hop().heal();
    pair.hop().release_all();
    pair.start(Service::Order, 0).await.unwrap();
    pair.settle(RESOLVED).await;
    let replayed = order(&pair, &[("A", 2)]).key(key).send().await.unwrap().expect(201);
    assert!(replayed.is_replayed(), "the reconciler finished the order without the client");
    assert_eq!(stock(&pair, "A").await, (1_000, 2));
    sound(&pair).await;
}

#[tokio::test]
async fn a_service_killed_after_the_effect_and_before_its_record_asks_again_and_records_it() {
    let mut pair = pair().await;
    pair.hop().script(When::next("POST /v1/reservations"), Fault::Hold(Point::Reply));
    let placing = tokio::spawn(order(&pair, &[("A", 2)]).send());
    eventually("inventory holds it", RESOLVED, || async { stock(&pair, "A").await == (1_000, 2) }).await;
    pair.kill(Service::Order, 0).await;
    assert!(placing.await.unwrap().is_err());
    pair.hop().heal();
    pair.start(Service::Order, 0).await.unwrap();
    pair.settle(RESOLVED).await;
    assert_eq!(stock(&pair, "A").await, (1_000, 2), "held once");
    sound(&pair).await;
}

#[tokio::test]
async fn a_driver_with_a_stale_epoch_writes_nothing() {
    let pair = pair().await;
    pair.hop().script(When::next("POST /v1/reservations"), Fault::Hold(Point::Reply));
    let placing = tokio::spawn(order(&pair, &[("A", 1)]).deadline(Duration::from_secs(3)).send());
    eventually("inventory holds it", RESOLVED, || async { stock(&pair, "A").await == (1_000, 1) }).await;
    let id = newest_order(&pair).await;
    // The lease is ended, as if the driver had slept through it: the reconciler takes the order under a new epoch.
    let mut admin = connect(&pair).await;
    sqlx::query("UPDATE orders SET holder = NULL, due_at = clock_timestamp() WHERE id = $1::uuid")
        .bind(&id)
        .execute(&mut admin)
        .await
        .unwrap();
    eventually("the reconciler has finished it", RESOLVED, || async {
        path(&pair, &id).await.last().is_some_and(|s| s == "reserved")
    })
    .await;
    let before = path(&pair, &id).await;
    pair.hop().heal();
    pair.hop().release_all();
    let reply = placing.await.unwrap().unwrap();
    assert!(matches!(reply.status.as_u16(), 201 | 202), "{reply}");
    assert_eq!(path(&pair, &id).await, before, "the driver with the stale epoch was fenced off");
    sound(&pair).await;
}

async fn newest_order(pair: &TestPair) -> String {
    let page = pair.client().get("/v1/orders").send().await.unwrap().expect(200).json();
    page["items"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned()
}

async fn connect(pair: &TestPair) -> sqlx::PgConnection {
    use sqlx::Connection;
    sqlx::PgConnection::connect_with(&pair.database(Service::Order).admin()).await.unwrap()
}

/// A client that places and confirms orders until `stop`, whatever the replies are.
async fn shop(client: Client, stop: &AtomicBool, done: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let call = client.post("/v1/orders").json(&TestPair::basket(&[("A", 1), ("B", 1)]));
        let placed = call.deadline(Duration::from_secs(1)).send().await;
        if let Ok(reply) = placed
            && reply.status.as_u16() == 201
        {
            let id = reply.json()["id"].as_str().unwrap().to_owned();
            let confirmed = client.post(&format!("/v1/orders/{id}/confirm")).send().await;
            done.fetch_add(1, Ordering::Relaxed);
            if let Err(Unanswered::NoConnection(_)) = confirmed {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Runs `disturb` while eight clients place and confirm orders. Then the pair settles and is checked.
async fn under_load(pair: &mut TestPair, disturb: impl AsyncFnOnce(&mut TestPair)) {
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let clients: Vec<Client> = (0..8).map(|_| pair.client()).collect();
    let shopping = join_all(clients.into_iter().map(|client| shop(client, &stop, &done)));
    let disturbing = async {
        eventually("orders flow", RESOLVED, || async { done.load(Ordering::Relaxed) > 10 }).await;
        disturb(pair).await;
        let so_far = done.load(Ordering::Relaxed);
        eventually("orders flow again", RESOLVED, || async { done.load(Ordering::Relaxed) > so_far + 10 })
            .await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(shopping, disturbing);
    sound(pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_either_service_under_load_loses_and_duplicates_nothing() {
    let mut pair = pair().await;
    under_load(&mut pair, async |pair| {
        for service in [Service::Inventory, Service::Order, Service::Inventory] {
            pair.kill(service, 0).await;
            pair.start(service, 0).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cutting_every_database_connection_under_load_loses_and_duplicates_nothing() {
    let mut pair = pair().await;
    under_load(&mut pair, async |pair| {
        for _ in 0..3 {
            for service in Service::BOTH {
                pair.network(service).cut();
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_stopped_service_finishes_the_requests_in_flight() {
    let mut pair = pair().await;
    pair.hop().script(
        When::next("POST /v1/reservations"),
        Fault::Delay { request: Duration::from_millis(500), reply: Duration::ZERO },
    );
    let placing = tokio::spawn(order(&pair, &[("A", 1)]).send());
    eventually("the call is on its way", RESOLVED, || async { pair.hop().counts().requests > 0 }).await;
    let stopped = pair.stop(Service::Order, 0).await;
    placing.await.unwrap().unwrap().expect(201);
    assert!(matches!(stopped, local::child::Stopped::ByItself(_)), "{stopped:?}");
    pair.start(Service::Order, 0).await.unwrap();
    reserved(&pair, &[("A", 1)]).await;
    sound(&pair).await;
}
