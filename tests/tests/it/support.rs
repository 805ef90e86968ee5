//! Test setup: a started pair, and the requests that most tests make.

use std::time::Duration;

use serde_json::Value;
use testkit::http::{Call, Reply};
use testkit::pair::{PairSetup, TestPair};

/// Bound on the time in which all interrupted orders are resolved, on a busy machine too.
pub(crate) const RESOLVED: Duration = Duration::from_secs(30);

/// A pair that is not started yet.
pub(crate) fn setup() -> PairSetup {
    TestPair::setup(pair_tests::programs(env!("CARGO_BIN_EXE_pair")), pair_tests::contract())
}

/// A started pair of one process each, with 1,000 pieces of `A`, `B` and `C`.
pub(crate) async fn pair() -> TestPair {
    let pair = setup().start().await.unwrap();
    for sku in ["A", "B", "C"] {
        pair.stock(sku, 1_000).await;
    }
    pair
}

/// A request for an order of these lines, not sent yet.
pub(crate) fn order(pair: &TestPair, lines: &[(&str, i64)]) -> Call {
    pair.client().post("/v1/orders").json(&TestPair::basket(lines))
}

/// Sends a request as a client should: while the reply is 503 and `not-executed`, it repeats the request with the same
/// key.
pub(crate) async fn patiently(call: impl Fn() -> Call) -> Reply {
    let first = call();
    let key = first.idempotency_key().expect("only a POST is repeated").to_owned();
    let mut reply = first.send().await.unwrap();
    for _ in 0..50 {
        if reply.status.as_u16() != 503 || reply.header("x-outcome") != "not-executed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        reply = call().key(&key).send().await.unwrap();
    }
    reply
}

/// Places an order, and gives its id when it is reserved.
pub(crate) async fn reserved(pair: &TestPair, lines: &[(&str, i64)]) -> String {
    let reply = patiently(|| order(pair, lines)).await;
    assert!(matches!(reply.status.as_u16(), 201 | 202), "{reply}");
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    if reply.status.as_u16() == 202 {
        // On a busy machine the order is not decided yet.
        becomes(pair, &id, "reserved").await;
    }
    id
}

/// A request for a command on an order, not sent yet.
pub(crate) fn command(pair: &TestPair, id: &str, name: &str) -> Call {
    pair.client().post(&format!("/v1/orders/{id}/{name}"))
}

/// Reads an order.
pub(crate) async fn read(pair: &TestPair, id: &str) -> Value {
    pair.client().get(&format!("/v1/orders/{id}")).send().await.unwrap().expect(200).json()
}

/// The states that an order went through, from its history.
pub(crate) async fn path(pair: &TestPair, id: &str) -> Vec<String> {
    let history =
        pair.client().get(&format!("/v1/orders/{id}/history")).send().await.unwrap().expect(200).json();
    history["entries"].as_array().unwrap().iter().map(|e| e["to"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the order has this status, and gives the order.
pub(crate) async fn becomes(pair: &TestPair, id: &str, status: &str) -> Value {
    testkit::eventually(&format!("order {id} is {status}"), RESOLVED, || async {
        let order = read(pair, id).await;
        if order["status"] == status { Ok(order) } else { Err(format!("it is {}", order["status"])) }
    })
    .await
}

/// Stock of an item at inventory: pieces on hand and pieces held.
pub(crate) async fn stock(pair: &TestPair, sku: &str) -> (i64, i64) {
    let item = pair.client_of(local::Service::Inventory, 0, testkit::pair::Who::Operator);
    let item = item.get(&format!("/v1/items/{sku}")).send().await.unwrap().expect(200).json();
    (item["on_hand"].as_i64().unwrap(), item["held"].as_i64().unwrap())
}

/// Stable name of a problem.
pub(crate) fn problem(reply: &Reply) -> String {
    reply.problem().unwrap_or_else(|| panic!("no problem document: {reply}"))
}

/// Waits until the pair is settled, and checks every invariant.
pub(crate) async fn sound(pair: &TestPair) {
    pair.settle(RESOLVED).await;
    pair.assert_invariants(true).await;
}
