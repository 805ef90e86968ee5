//! COMMIT is sent and its answer never comes, or it never arrives: what happened has to be found out, not guessed.

use local::Service;
use testkit::eventually;
use testkit::http::{Call, Reply};
use testkit::pair::TestPair;
use testkit::proxy::Cut;

use crate::support::{RESOLVED, becomes, command, order, pair, sound, stock};

/// Repeats a request under one key until it is accepted. "It is not known whether the request was carried out" is a
/// fair answer to the first.
async fn until_accepted(what: &str, call: impl Fn() -> Call) -> Reply {
    let key = call().idempotency_key().expect("only a POST is repeated").to_owned();
    eventually(what, RESOLVED, || async {
        let reply = call().key(&key).send().await?;
        anyhow::ensure!(reply.status.is_success(), "{reply}");
        Ok(reply)
    })
    .await
}

/// Places and confirms an order while the network before a database cuts the connection at one of its commits.
async fn through(pair: &TestPair, service: Service, cut: Cut, commit: u32) {
    let cuts = pair.network(service).counts().cuts;
    pair.network(service).cut_on(b"COMMIT", commit, cut);
    let what = format!("{service}, {cut:?} at commit {commit}");
    let placed = until_accepted(&what, || order(pair, &[("A", 1)])).await;
    let id = placed.json()["id"].as_str().unwrap().to_owned();
    becomes(pair, &id, "reserved").await;
    until_accepted(&what, || command(pair, &id, "confirm")).await;
    becomes(pair, &id, "confirmed").await;
    assert_eq!(pair.network(service).counts().cuts, cuts + 1, "{what}: the cut took place");
}

#[tokio::test]
async fn a_commit_of_the_order_service_whose_answer_is_lost_has_happened_once() {
    let pair = pair().await;
    // tx1 and tx2 of the order, tx1 and tx2 of its confirmation.
    for commit in 0..4 {
        through(&pair, Service::Order, Cut::BeforeReply, commit).await;
    }
    assert_eq!(stock(&pair, "A").await, (996, 0));
    sound(&pair).await;
}

#[tokio::test]
async fn a_commit_of_the_order_service_that_never_arrives_has_not_happened_and_is_made_again() {
    let pair = pair().await;
    for commit in 0..4 {
        through(&pair, Service::Order, Cut::BeforeDelivery, commit).await;
    }
    assert_eq!(stock(&pair, "A").await, (996, 0));
    sound(&pair).await;
}

#[tokio::test]
async fn inventorys_commits_are_as_safe_as_the_order_services() {
    let pair = pair().await;
    // The reservation, then its confirmation.
    for commit in 0..2 {
        through(&pair, Service::Inventory, Cut::BeforeReply, commit).await;
        through(&pair, Service::Inventory, Cut::BeforeDelivery, commit).await;
    }
    assert_eq!(stock(&pair, "A").await, (996, 0));
    sound(&pair).await;
}
