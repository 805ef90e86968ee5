//! Tests of a COMMIT whose answer never comes, and of a COMMIT that never arrives: the service finds the outcome and does
//! not guess it.

use local::Service;
use testkit::eventually;
use testkit::http::{Call, Reply};
use testkit::pair::TestPair;
use testkit::proxy::Cut;

use crate::support::{RESOLVED, becomes, command, order, pair, sound, stock};

/// Repeats a request under one key until it is accepted. The first reply may say that the outcome is unknown.
async fn until_accepted(what: &str, call: impl Fn() -> Call) -> Reply {
    let key = call().idempotency_key().expect("only a POST is repeated").to_owned();
    eventually(what, RESOLVED, || async {
        let reply = call().key(&key).send().await?;
        anyhow::ensure!(reply.status.is_success(), "{reply}");
        Ok(reply)
    })
    .await
}

/// Places and confirms an order while the network before a database cuts the connection at the commit of a decision.
async fn through(pair: &TestPair, service: Service, cut: Cut, rule: &str) {
    let cuts = pair.network(service).counts().cuts;
    let what = format!("{service}, {cut:?} at the commit of {rule}");
    let of_confirmation = matches!(rule, "order.intend@2" | "inventory.confirm@1");
    if !of_confirmation {
        pair.network(service).cut_commit_of(rule.as_bytes(), cut);
    }
    let placed = until_accepted(&what, || order(pair, &[("A", 1)])).await;
    let id = placed.json()["id"].as_str().unwrap().to_owned();
    becomes(pair, &id, "reserved").await;
    if of_confirmation {
        pair.network(service).cut_commit_of(rule.as_bytes(), cut);
    }
    until_accepted(&what, || command(pair, &id, "confirm")).await;
    becomes(pair, &id, "confirmed").await;
    assert_eq!(pair.network(service).counts().cuts, cuts + 1, "{what}: the cut took place");
}

const OF_ORDER: [&str; 3] = ["order.place@1", "order.answered@1", "order.intend@2"];

#[tokio::test]
async fn a_commit_of_the_order_service_whose_answer_is_lost_takes_effect_once() {
    let pair = pair().await;
    for rule in OF_ORDER {
        through(&pair, Service::Order, Cut::BeforeReply, rule).await;
    }
    assert_eq!(stock(&pair, "A").await, (997, 0));
    sound(&pair).await;
}

#[tokio::test]
async fn a_commit_of_the_order_service_that_never_arrives_has_no_effect_and_is_repeated() {
    let pair = pair().await;
    for rule in OF_ORDER {
        through(&pair, Service::Order, Cut::BeforeDelivery, rule).await;
    }
    assert_eq!(stock(&pair, "A").await, (997, 0));
    sound(&pair).await;
}

#[tokio::test]
async fn a_commit_of_inventory_that_is_lost_either_way_takes_effect_once() {
    let pair = pair().await;
    for rule in ["inventory.reserve@1", "inventory.confirm@1"] {
        through(&pair, Service::Inventory, Cut::BeforeReply, rule).await;
        through(&pair, Service::Inventory, Cut::BeforeDelivery, rule).await;
    }
    assert_eq!(stock(&pair, "A").await, (996, 0));
    sound(&pair).await;
}
