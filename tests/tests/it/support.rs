//! Starting a pair and the few requests that every test makes.

use std::time::Duration;

use serde_json::Value;
use testkit::http::{Call, Reply};
use testkit::pair::{PairSetup, TestPair};

/// Within this everything that was interrupted is resolved, on a busy machine too.
pub(crate) const RESOLVED: Duration = Duration::from_secs(30);

/// A pair that has not been started.
pub(crate) fn setup() -> PairSetup {
    TestPair::setup(pair_tests::programs(env!("CARGO_BIN_EXE_pair")), pair_tests::contract())
}

/// A pair of one process each, with plenty of `A`, `B` and `C`.
pub(crate) async fn pair() -> TestPair {
    let pair = setup().start().await.unwrap();
    for sku in ["A", "B", "C"] {
        pair.stock(sku, 1_000).await;
    }
    pair
}

/// An order of these lines, not sent yet.
pub(crate) fn order(pair: &TestPair, lines: &[(&str, i64)]) -> Call {
    pair.client().post("/v1/orders").json(&TestPair::basket(lines))
}

/// Sends a request as a client should: what was refused for want of room, and not executed, is sent again with the
/// same key.
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

/// A reserved order's id.
pub(crate) async fn reserved(pair: &TestPair, lines: &[(&str, i64)]) -> String {
    let reply = patiently(|| order(pair, lines)).await;
    assert!(matches!(reply.status.as_u16(), 201 | 202), "{reply}");
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    if reply.status.as_u16() == 202 {
        // A busy machine: it is being decided.
        becomes(pair, &id, "reserved").await;
    }
    id
}

/// A command on an order.
pub(crate) fn command(pair: &TestPair, id: &str, name: &str) -> Call {
    pair.client().post(&format!("/v1/orders/{id}/{name}"))
}

/// The order as it stands.
pub(crate) async fn read(pair: &TestPair, id: &str) -> Value {
    pair.client().get(&format!("/v1/orders/{id}")).send().await.unwrap().expect(200).json()
}

/// The states an order has been through.
pub(crate) async fn path(pair: &TestPair, id: &str) -> Vec<String> {
    let history =
        pair.client().get(&format!("/v1/orders/{id}/history")).send().await.unwrap().expect(200).json();
    history["entries"].as_array().unwrap().iter().map(|e| e["to"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the order is in this state.
pub(crate) async fn becomes(pair: &TestPair, id: &str, status: &str) -> Value {
    testkit::eventually(&format!("order {id} is {status}"), RESOLVED, || async {
        let order = read(pair, id).await;
        if order["status"] == status { Ok(order) } else { Err(format!("it is {}", order["status"])) }
    })
    .await
}

/// What inventory has of an item: on hand, held.
pub(crate) async fn stock(pair: &TestPair, sku: &str) -> (i64, i64) {
    let item = pair.client_of(local::Service::Inventory, 0, testkit::pair::Who::Operator);
    let item = item.get(&format!("/v1/items/{sku}")).send().await.unwrap().expect(200).json();
    (item["on_hand"].as_i64().unwrap(), item["held"].as_i64().unwrap())
}

/// The problem's stable name.
pub(crate) fn problem(reply: &Reply) -> String {
    reply.problem().unwrap_or_else(|| panic!("no problem document: {reply}"))
}

/// Nothing is left undone, and every invariant holds.
pub(crate) async fn sound(pair: &TestPair) {
    pair.settle(RESOLVED).await;
    pair.assert_invariants(true).await;
}
