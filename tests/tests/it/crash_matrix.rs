//! Tests of SIGKILL right before and right after the COMMIT of every durable step of every command. The proxy before the
//! database holds the connection at that point until the service is dead.
//!
//! When a kill rolls a step back, the client or the reconciler repeats the step, and the service is killed at it a second
//! time. A test fails when its step is never reached.

use std::time::Duration;

use local::Service;
use testkit::eventually;
use testkit::http::Call;
use testkit::pair::TestPair;
use testkit::proxy::Cut;

use crate::support::{RESOLVED, becomes, command, order, pair, reserved, sound, stock};

/// Deadline of the client's requests. The lease of a request, which the reconciler waits for, is two seconds longer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Sends `call` under one key until it succeeds, and kills the service at the COMMIT of `rule` once or twice.
async fn killed_at<C>(pair: &mut TestPair, (service, rule): (Service, &str), cut: Cut, call: C) -> String
where
    C: Fn(&TestPair) -> Call,
{
    let key = call(pair).idempotency_key().expect("a command has one").to_owned();
    let what = format!("{service} killed {cut:?} of the COMMIT of {rule}");
    let hits = match cut {
        Cut::BeforeDelivery => 2,
        Cut::BeforeReply => 1,
    };
    let before = pair.network(service).counts().held;
    pair.network(service).hold_commit_of(rule.as_bytes(), cut);
    for hit in 1..=hits {
        // The second time the reconciler may already be working on the command without this client.
        let asking = tokio::spawn(call(pair).key(&key).deadline(PATIENCE).send());
        eventually(&format!("{what}, hit {hit}: the step is reached"), RESOLVED, || async {
            pair.network(service).counts().held == before + hit
        })
        .await;
        pair.kill(service, 0).await;
        if hit < hits {
            // This is set before the service and its reconciler are back.
            pair.network(service).hold_commit_of(rule.as_bytes(), cut);
        }
        // The client's log has the reply, and the checker reads the log.
        let _heard = asking.await.expect("the client does not panic");
        pair.start(service, 0).await.expect("the service starts again");
    }
    let reply = eventually(&what, RESOLVED, || async {
        let reply = call(pair).key(&key).send().await?;
        anyhow::ensure!(reply.status.is_success(), "{reply}");
        Ok(reply)
    })
    .await;
    reply.json()["id"].as_str().expect("an order has an id").to_owned()
}

const CUTS: [Cut; 2] = [Cut::BeforeDelivery, Cut::BeforeReply];

#[tokio::test]
async fn an_order_is_placed_once_when_a_service_is_killed_at_any_durable_step_of_placing_it() {
    let mut pair = pair().await;
    let steps = [
        (Service::Order, "order.place@1"),
        (Service::Inventory, "inventory.reserve@1"),
        (Service::Order, "order.answered@1"),
    ];
    for step in steps {
        for cut in CUTS {
            let id = killed_at(&mut pair, step, cut, |pair| order(pair, &[("A", 1)])).await;
            becomes(&pair, &id, "reserved").await;
        }
    }
    assert_eq!(stock(&pair, "A").await, (1_000, 6));
    sound(&pair).await;
}

#[tokio::test]
async fn an_order_is_confirmed_once_when_a_service_is_killed_at_any_durable_step_of_confirming_it() {
    let mut pair = pair().await;
    let steps = [
        (Service::Order, "order.intend@2"),
        (Service::Inventory, "inventory.confirm@1"),
        (Service::Order, "order.answered@1"),
    ];
    for step in steps {
        for cut in CUTS {
            let id = reserved(&pair, &[("A", 1)]).await;
            killed_at(&mut pair, step, cut, |pair| command(pair, &id, "confirm")).await;
            becomes(&pair, &id, "confirmed").await;
        }
    }
    assert_eq!(stock(&pair, "A").await, (994, 0));
    sound(&pair).await;
}

#[tokio::test]
async fn an_order_is_cancelled_once_when_a_service_is_killed_at_any_durable_step_of_cancelling_it() {
    let mut pair = pair().await;
    let steps = [
        (Service::Order, "order.intend@2"),
        (Service::Inventory, "inventory.release@1"),
        (Service::Order, "order.answered@1"),
    ];
    for step in steps {
        for cut in CUTS {
            let id = reserved(&pair, &[("A", 1)]).await;
            killed_at(&mut pair, step, cut, |pair| command(pair, &id, "cancel")).await;
            becomes(&pair, &id, "cancelled").await;
        }
    }
    assert_eq!(stock(&pair, "A").await, (1_000, 0));
    sound(&pair).await;
}
