//! Tests of every documented HTTP status of the order service's API, and of the replies' bodies.

use std::time::Duration;

use local::Service;
use serde_json::{Value, json};
use testkit::pair::{TestPair, Who};
use uuid::Uuid;

use crate::support::{becomes, command, order, pair, path, problem, read, reserved, setup, sound, stock};

#[tokio::test]
async fn an_order_is_reserved_confirmed_and_shipped() {
    let pair = pair().await;
    let reply =
        order(&pair, &[("A", 3), ("B", 1)]).correlation("my-order-1").send().await.unwrap().expect(201);
    let placed = reply.json();
    let id = placed["id"].as_str().unwrap();
    assert_eq!(reply.header("location"), format!("/v1/orders/{id}"));
    assert_eq!(reply.header("x-correlation-id"), "my-order-1");
    assert_eq!((&placed["status"], &placed["version"]), (&json!("reserved"), &json!(2)));
    assert_eq!(placed["correlation_id"], "my-order-1");
    assert!(placed["reservation"]["expires_at"].is_string());
    assert_eq!(placed["lines"], json!([{"sku": "A", "quantity": 3}, {"sku": "B", "quantity": 1}]));
    assert_eq!(read(&pair, id).await, placed);
    assert_eq!(stock(&pair, "A").await, (1_000, 3));

    let confirmed = command(&pair, id, "confirm").json(&json!({})).send().await.unwrap().expect(200).json();
    assert_eq!(confirmed["status"], "confirmed");
    assert_eq!(stock(&pair, "A").await, (997, 0));
    assert_eq!(path(&pair, id).await, ["reserving", "reserved", "confirming", "confirmed"]);
    // The state is reached already, so the reply is the present order, and there is no new entry.
    let again = command(&pair, id, "confirm").send().await.unwrap().expect(200).json();
    assert_eq!(again["version"], confirmed["version"]);
    let refused = command(&pair, id, "cancel").send().await.unwrap().expect(409);
    assert_eq!(problem(&refused), "illegal-transition");
    assert_eq!(refused.json()["from"], "confirmed");
    assert_eq!(refused.json()["allowed"], json!([]));
    sound(&pair).await;
}

#[tokio::test]
async fn a_cancelled_order_holds_nothing() {
    let pair = pair().await;
    let id = reserved(&pair, &[("A", 5)]).await;
    let cancelled = command(&pair, &id, "cancel").send().await.unwrap().expect(200).json();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(stock(&pair, "A").await, (1_000, 0));
    let refused = command(&pair, &id, "confirm").send().await.unwrap().expect(409);
    assert_eq!(
        (problem(&refused).as_str(), &refused.json()["to"]),
        ("illegal-transition", &json!("confirmed"))
    );
    command(&pair, &id, "cancel").send().await.unwrap().expect(200);
    sound(&pair).await;
}

#[tokio::test]
async fn an_order_that_inventory_refuses_is_rejected_with_the_reason() {
    let pair = pair().await;
    let short = order(&pair, &[("A", 999_999), ("B", 1)]).send().await.unwrap().expect(409);
    assert_eq!(problem(&short), "insufficient-stock");
    let body = short.json();
    assert_eq!(body["short_lines"], json!([{"sku": "A", "requested": 999_999, "available": 1_000}]));
    assert_eq!(body["outcome"], "refused");
    assert_eq!(read(&pair, body["order_id"].as_str().unwrap()).await["status"], "rejected");
    assert_eq!(stock(&pair, "B").await, (1_000, 0), "all or nothing");

    let unknown = order(&pair, &[("A", 1), ("nonesuch", 1)]).send().await.unwrap().expect(422);
    assert_eq!(problem(&unknown), "unknown-sku");
    assert_eq!(unknown.json()["errors"][0]["field"], "lines[1].sku");
    assert_eq!(path(&pair, unknown.json()["order_id"].as_str().unwrap()).await, ["reserving", "rejected"]);
    sound(&pair).await;
}

#[tokio::test]
async fn the_end_of_a_hold_by_inventorys_clock_expires_the_order() {
    let pair = setup().env(Service::Order, "HOLD_SECONDS", "1").start().await.unwrap();
    pair.stock("A", 10).await;
    let id = reserved(&pair, &[("A", 4)]).await;
    let expired = becomes(&pair, &id, "expired").await;
    assert_eq!(expired["id"], id.as_str());
    assert_eq!(stock(&pair, "A").await, (10, 0));
    let refused = command(&pair, &id, "confirm").send().await.unwrap().expect(410);
    assert_eq!(problem(&refused), "reservation-expired");
    sound(&pair).await;
}

#[tokio::test]
async fn malformed_and_invalid_requests_name_the_field_claim_no_key_and_change_nothing() {
    let pair = pair().await;
    let client = pair.client();
    let post = |body: &str| client.post("/v1/orders").json(&Value::Null).body(body.to_owned());
    let big = format!(r#"{{"customer_id":"{}"}}"#, "x".repeat(300 * 1024));
    let lines: Vec<_> = (0..1_001).map(|n| json!({"sku": format!("s{n}"), "quantity": 1})).collect();
    let cases = [
        (post("{"), 400, "malformed-json", "body"),
        (post(r#"{"customer_id":"1","customer_id":"2","lines":[]}"#), 400, "malformed-json", "body"),
        (post(r#"{"customer_id":1,"lines":[]}"#), 422, "validation-failed", "customer_id"),
        (
            post(r#"{"customer_id":"","lines":[{"sku":"A","quantity":1}]}"#),
            422,
            "validation-failed",
            "customer_id",
        ),
        (post(r#"{"customer_id":"1","lines":[]}"#), 422, "validation-failed", "lines"),
        (post(&json!({"customer_id": "1", "lines": lines}).to_string()), 422, "validation-failed", "lines"),
        (
            post(r#"{"customer_id":"1","lines":[{"sku":"A","quantity":0}]}"#),
            422,
            "validation-failed",
            "lines[0].quantity",
        ),
        (
            post(r#"{"customer_id":"1","lines":[{"sku":"A","quantity":1.5}]}"#),
            422,
            "validation-failed",
            "lines[0].quantity",
        ),
        (
            post(r#"{"customer_id":"1","lines":[{"sku":"A","quantity":1},{"sku":"A","quantity":1}]}"#),
            422,
            "validation-failed",
            "lines[1].sku",
        ),
        (post(&big), 413, "payload-too-large", "body"),
        (client.post("/v1/orders").body("{}"), 415, "unsupported-media-type", "Content-Type"),
        (
            post("{}").without(&mainstay::headers::IDEMPOTENCY_KEY),
            400,
            "idempotency-key-missing",
            "Idempotency-Key",
        ),
        (post("{}").key("short"), 400, "idempotency-key-invalid", "Idempotency-Key"),
        (client.post("/v1/orders/nonsense/confirm"), 400, "malformed-parameter", "id"),
        (client.get("/v1/orders?limit=0"), 400, "malformed-parameter", "limit"),
        (client.get("/v1/orders?customer_id=%00"), 400, "malformed-parameter", "customer_id"),
        (client.get("/v1/orders?customer_id="), 400, "malformed-parameter", "customer_id"),
        (client.get("/v1/orders?after=nonsense"), 400, "malformed-parameter", "after"),
    ];
    for (call, status, name, field) in cases {
        let what = format!("{call:?}");
        let reply = call.send().await.unwrap();
        assert_eq!(
            (reply.status.as_u16(), problem(&reply).as_str()),
            (status, name),
            "{reply}\n{}",
            &what[..what.len().min(400)]
        );
        let body = reply.json();
        let fields: Vec<_> =
            body["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
        assert!(fields.contains(&field), "{fields:?} lacks {field}");
        assert_eq!(body["correlation_id"], reply.header("x-correlation-id"));
    }
    let listed = client.get("/v1/orders").send().await.unwrap().expect(200).json();
    assert_eq!(listed["items"], json!([]), "nothing was placed");
    let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency")
        .fetch_one(&mut connect(&pair, Service::Order).await)
        .await
        .unwrap();
    assert_eq!(keys, 0, "no key was claimed");
}

async fn connect(pair: &TestPair, service: Service) -> sqlx::PgConnection {
    use sqlx::Connection;
    sqlx::PgConnection::connect_with(&pair.database(service).admin()).await.unwrap()
}

#[tokio::test]
async fn a_forbidden_caller_gets_401_or_403_and_another_principal_gets_404() {
    let pair = pair().await;
    let id = reserved(&pair, &[("A", 1)]).await;
    let anonymous = testkit::http::Client::new(&pair.url(Service::Order, 0));
    let reply = anonymous.get("/v1/orders").send().await.unwrap().expect(401);
    assert!(reply.header("www-authenticate").starts_with("Bearer"));
    anonymous.token("not-a-token").get("/v1/orders").send().await.unwrap().expect(401);
    let stranger = pair.client_of(Service::Order, 0, Who::Other);
    stranger.get(&format!("/v1/orders/{id}")).send().await.unwrap().expect(404);
    stranger.get(&format!("/v1/orders/{id}/history")).send().await.unwrap().expect(404);
    stranger.post(&format!("/v1/orders/{id}/cancel")).send().await.unwrap().expect(404);
    let operator = pair.client_of(Service::Order, 0, Who::Operator);
    operator.get(&format!("/v1/orders/{id}")).send().await.unwrap().expect(200);
    let basket = TestPair::basket(&[("A", 1)]);
    assert_eq!(
        problem(&operator.post("/v1/orders").json(&basket).send().await.unwrap().expect(403)),
        "forbidden"
    );
    let unknown = format!("/v1/orders/{}", Uuid::now_v7());
    assert_eq!(problem(&pair.client().get(&unknown).send().await.unwrap().expect(404)), "not-found");
    let reply = pair
        .client()
        .call(http::Method::DELETE, &format!("/v1/orders/{id}"))
        .send()
        .await
        .unwrap()
        .expect(405);
    assert!(reply.header("allow").contains("GET"), "{reply}");
    pair.client().get("/v1/nothing").send().await.unwrap().expect(404);
    sound(&pair).await;
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let pair = pair().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(reserved(&pair, &[("A", 1)]).await);
    }
    command(&pair, &ids[2], "cancel").send().await.unwrap().expect(200);
    let mut seen = Vec::new();
    let mut next = String::from("/v1/orders?limit=2");
    loop {
        let page = pair.client().get(&next).send().await.unwrap().expect(200).json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|o| o["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(cursor) => next = format!("/v1/orders?limit=2&after={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ids, "each order once, oldest first");
    let cancelled = pair.client().get("/v1/orders?status=cancelled").send().await.unwrap().expect(200).json();
    assert_eq!(cancelled["items"].as_array().unwrap().len(), 1);
    let others = pair.client().get("/v1/orders?customer_id=unknown").send().await.unwrap().expect(200).json();
    assert_eq!(others["items"], json!([]));
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_refused_before_anything_is_done() {
    let pair = pair().await;
    let late = order(&pair, &[("A", 1)]).deadline(Duration::ZERO).send().await.unwrap().expect(504);
    assert_eq!(
        (problem(&late).as_str(), &late.json()["outcome"]),
        ("deadline-exceeded", &json!("not-executed"))
    );
    assert_eq!(late.header("x-outcome"), "not-executed");
    let listed = pair.client().get("/v1/orders").send().await.unwrap().expect(200).json();
    assert_eq!(listed["items"], json!([]));
}

#[tokio::test]
async fn a_correlation_id_that_would_forge_a_log_line_is_replaced() {
    let pair = pair().await;
    let reply = order(&pair, &[("A", 1)]).correlation("forged id\t").send().await.unwrap().expect(201);
    let id = reply.header("x-correlation-id");
    assert!(mainstay::CorrelationId::parse(id).is_ok() && id != "forged id\t", "{id}");
    let log = std::fs::read_to_string(pair.log_file(Service::Order, 0)).unwrap();
    assert!(
        log.lines().filter(|l| !l.is_empty()).all(|l| serde_json::from_str::<Value>(l).is_ok()),
        "one JSON object a line"
    );
    assert!(log.contains(id), "the id is in the log");
}

#[tokio::test]
async fn the_operations_listener_serves_probes_metrics_journal_and_openapi() {
    let pair = pair().await;
    reserved(&pair, &[("A", 1)]).await;
    for service in Service::BOTH {
        let ops = pair.ops(service, 0);
        ops.get("/livez").send().await.unwrap().expect(200);
        ops.get("/readyz").send().await.unwrap().expect(200);
        let metrics = ops.get("/metrics").send().await.unwrap().expect(200);
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        assert!(text.contains("mainstay_server_requests_total"), "{text}");
        ops.get("/admin/v1/journal").send().await.unwrap().expect(200);
        ops.get("/admin/v1/journal?limit=0").send().await.unwrap().expect(400);
        ops.get("/admin/v1/faults/order-server").send().await.unwrap().expect(404);
        let metrics = ops.get("/metrics").send().await.unwrap().expect(200);
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        let mut admin = text.lines().filter(|line| line.contains("route=\"/admin/"));
        assert!(
            admin.all(|line| !line.contains("outcome=\"cancelled\"")),
            "no client has disconnected: {text}"
        );
        let spec =
            pair.client_of(service, 0, Who::Operator).get("/openapi.json").send().await.unwrap().expect(200);
        assert_eq!(spec.json()["openapi"], "3.1.0");
        pair.client_of(service, 0, Who::Operator).get("/docs/").send().await.unwrap().expect(200);
    }
    // A dead inventory is reported, and the order service stays ready.
    pair.hop().close().await;
    pair.ops(Service::Order, 0).get("/readyz").send().await.unwrap().expect(200);
    let client = pair.client();
    let placed =
        client.post("/v1/orders").json(&TestPair::basket(&[("A", 1)])).send().await.unwrap().expect(202);
    assert_eq!(
        placed.json()["status"],
        "reserving",
        "the request was never sent, so its outcome is not unknown"
    );
    assert!(!placed.header("location").is_empty() && placed.header("retry-after") == "1");
}
