//! Tests that metrics, breakers, logs and readiness state no falsehood.

use std::time::Duration;

use local::Service;
use serde_json::json;
use testkit::eventually;
use testkit::proxy::{Direction, Flow};

use crate::isolation::metric;
use crate::support::{RESOLVED, becomes, order, setup, sound};

#[tokio::test]
async fn a_reply_that_cannot_be_read_is_unknown_to_metrics_breaker_and_log() {
    let pair = setup().env(Service::Order, "FAULTS_ENABLED", "true").start().await.unwrap();
    pair.stock("A", 100).await;
    let operator = pair.ops(Service::Order, 0);
    let fault = "/admin/v1/faults/inventory-client";
    let garbage = json!({"fault": "garbage", "reason": "a test"});
    operator.put(fault).json(&garbage).send().await.unwrap().expect(200);
    let mut ids = Vec::new();
    for _ in 0..6 {
        let placed = order(&pair, &[("A", 1)]).send().await.unwrap().expect(202).json();
        ids.push(placed["id"].as_str().unwrap().to_owned());
    }
    let requests = |outcome: &str| {
        let series = format!("mainstay_client_requests_total{{peer=\"inventory\",outcome=\"{outcome}\"}}");
        let pair = &pair;
        async move { metric(pair, Service::Order, &series).await.unwrap_or_default() }
    };
    assert!(requests("unknown").await >= 1.0);
    assert!(requests("success").await < 1.0, "no reply could be read");
    let breakers = operator.get("/admin/v1/breakers").send().await.unwrap().expect(200).json();
    assert_ne!(breakers["items"][0]["trips"], 0, "{breakers}");
    let repeats = "mainstay_client_repeats_total";
    eventually("repeats are counted as repeats", RESOLVED, || async {
        let text = pair.ops(Service::Order, 0).get("/metrics").send().await.unwrap().expect(200);
        let text = String::from_utf8(text.body.to_vec()).unwrap();
        text.lines().any(|line| line.starts_with(repeats) && !line.ends_with(" 0"))
    })
    .await;

    operator.delete(fault).json(&json!({"reason": "the test is over"})).send().await.unwrap().expect(200);
    for id in &ids {
        becomes(&pair, id, "reserved").await;
    }
    sound(&pair).await;
}

#[tokio::test]
async fn gauges_become_nan_and_keep_the_time_of_the_last_reading_when_the_database_stops_answering() {
    let pair = setup().start().await.unwrap();
    let gauges = [
        (
            Service::Order,
            "mainstay_orders_unresolved_oldest_seconds",
            "mainstay_orders_unresolved_read_timestamp_seconds",
        ),
        (
            Service::Inventory,
            "mainstay_reservations_overdue_seconds",
            "mainstay_reservations_read_timestamp_seconds",
        ),
    ];
    for (service, reading, time) in gauges {
        eventually("there is a reading", RESOLVED, || async {
            let read = metric(&pair, service, reading).await.filter(|value| *value == 0.0);
            read.and(metric(&pair, service, time).await).filter(|time| *time > 0.0)
        })
        .await;
        for direction in [Direction::Up, Direction::Down] {
            pair.network(service).flow(direction, Flow::Freeze);
        }
        eventually("the reading is gone", RESOLVED, || async {
            metric(&pair, service, reading).await.is_some_and(f64::is_nan)
        })
        .await;
        let last = metric(&pair, service, time).await.unwrap();
        pair.network(service).heal().await;
        eventually("there is a new reading", Duration::from_mins(1), || async {
            let is_newer = metric(&pair, service, time).await.is_some_and(|time| time > last);
            is_newer && metric(&pair, service, reading).await == Some(0.0)
        })
        .await;
    }
}
