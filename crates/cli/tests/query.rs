//! `mainstay query` over the events of a running pair.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside what clippy takes for a test")]

#[allow(dead_code, reason = "shared with the tests of incidents, which use the rest")]
#[path = "support/http.rs"]
mod http;
#[allow(dead_code, reason = "shared with the tests of `up`, which use the rest")]
mod support;

use std::collections::BTreeSet;

use serde_json::Value;

use support::{Up, mainstay, output, request, scratch, wait_for};

/// The lines that `mainstay query --json` prints, and its exit code.
fn query(
    scratch: &local::TemporaryDirectory,
    up: &Up,
    arguments: &[&str],
) -> (Option<i32>, Vec<Value>, String) {
    let mut command = mainstay(scratch);
    command.args(["query", "--json", "--port-base", &up.base.to_string()]).args(arguments);
    let (output, said, complaint) = output(&mut command);
    (output.status.code(), said.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), complaint)
}

#[test]
fn the_events_of_both_services_are_found_counted_and_verified() {
    let scratch = scratch();
    let up = Up::start(&scratch, &[]);
    let (status, body) =
        request(&up, "POST", "/v1/items", r#"{"sku": "10001", "name": "mug", "on_hand": 9}"#);
    assert_eq!(status, 201, "{body}");
    let place = |key: &str, sku: &str| {
        let headers = format!("Idempotency-Key: {key}\r\nX-Correlation-Id: {key}\r\n");
        let body = format!(r#"{{"customer_id": "7001", "lines": [{{"sku": "{sku}", "quantity": 2}}]}}"#);
        http::send(&format!("{}/v1/orders", up.ready.order), "POST", &up.ready.tokens.client, &headers, &body)
    };
    let (status, placed) = place("key-of-the-first-order", "10001");
    assert_eq!(status, 201, "{placed}");
    assert_eq!(place("key-of-the-second-order", " outer-space").0, 422);

    let order_id = serde_json::from_str::<Value>(&placed).unwrap()["id"].as_str().unwrap().to_owned();
    let found = wait_for("the events of the order", || {
        let (_, lines, _) = query(&scratch, &up, &[&format!("order={order_id}"), "--since", "10m"]);
        (lines.len() == 2).then_some(lines)
    });
    let services: BTreeSet<_> = found.iter().map(|event| event["service.name"].as_str().unwrap()).collect();
    assert_eq!(services, BTreeSet::from(["order", "inventory"]));
    let event = found.iter().find(|event| event["service.name"] == "order").unwrap();
    assert_eq!(event["customer_id"], "7001");
    assert_eq!(event["skus"], serde_json::json!(["10001"]));
    assert_eq!((&event["verdict"], &event["http.route"]), (&"good".into(), &"/v1/orders".into()));
    assert_eq!(event["correlation_id"], "key-of-the-first-order");
    assert_eq!(event["deployment.environment.name"], "local");
    assert_eq!(event["config.hash"].as_str().unwrap().len(), 64);

    let (code, groups, _) = query(&scratch, &up, &["route=/v1/orders", "--by", "error.type,status"]);
    assert_eq!(code, Some(0));
    let of = |error: &str| {
        groups.iter().find(|group| group["by"]["error.type"] == error).unwrap()["weight"].clone()
    };
    assert_eq!((of("none"), of("validation-failed")), (1.into(), 1.into()));

    let (code, all, _) = query(&scratch, &up, &["--last", "1000"]);
    assert_eq!(code, Some(0));
    let described: BTreeSet<_> = evidence::fields::FIELDS.iter().map(|field| field.name).collect();
    for event in &all {
        for name in event.as_object().unwrap().keys() {
            assert!(described.contains(name.as_str()), "{name} is in no table: {event}");
        }
    }

    assert_eq!(query(&scratch, &up, &["customer=nobody-1"]).0, Some(1));
    let (code, _, complaint) = query(&scratch, &up, &["colour=red"]);
    assert_eq!(code, Some(2));
    assert!(complaint.contains("no facet is called") && complaint.contains("http.route"), "{complaint}");
    assert_eq!(query(&scratch, &up, &["--from", "yesterday"]).0, Some(2));
    let (code, verified, _) = query(&scratch, &up, &["--verify"]);
    assert_eq!((code, verified.len()), (Some(0), 2), "{verified:?}");
    let (_, tiers, _) = query(&scratch, &up, &["--tiers"]);
    assert!(tiers.iter().all(|line| line["kept"]["hot"]["bytes"].as_u64().unwrap() > 0), "{tiers:?}");

    support::send("KILL", up.ready.pids.inventory.unwrap());
    let (code, events, complaint) = query(&scratch, &up, &["order_id!=none"]);
    // `up` starts the service again, so the answer may already be whole.
    if code == Some(3) {
        assert!(complaint.contains("inventory: no events"), "{complaint}");
        assert!(!events.is_empty());
    }
    let after = wait_for("the events of before the kill", || {
        let (code, lines, _) = query(&scratch, &up, &[&format!("order={order_id}")]);
        (code == Some(0)).then_some(lines)
    });
    assert_eq!(after.len(), 2, "the events outlive their process: {after:?}");
}

#[test]
fn the_operations_listener_refuses_a_query_without_an_operators_token() {
    let scratch = scratch();
    let up = Up::start(&scratch, &[]);
    let url = format!("{}/admin/v1/evidence", up.ready.order_ops);
    assert_eq!(http::send(&url, "GET", "wrong", "", "").0, 401);
    assert_eq!(http::send(&url, "GET", &up.ready.tokens.client, "", "").0, 403);
    let (status, body) = http::send(&format!("{url}?last=0"), "GET", &up.ready.tokens.operator, "", "");
    assert_eq!(status, 400, "{body}");
    let (status, body) = http::send(&url, "GET", &up.ready.tokens.operator, "", "");
    assert_eq!(status, 200);
    assert!(body.contains("\"event\":\"end\""), "{body}");
}
