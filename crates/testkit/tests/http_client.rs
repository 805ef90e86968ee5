//! The test client logs each reply as the service gave it.

use std::net::SocketAddr;
use std::time::Duration;

use checker::Side;
use journal::KeyHash;
use journal::entry::hash;
use journal::hex;
use serde_json::json;
use testkit::http::Unanswered;
use testkit::proxy::{Ending, Fault, HttpProxy, When};
use testkit::{Client, RequestLog};

const ORDER: &str = "0192f0c0-0000-7000-8000-000000000001";

/// A server that answers every request with this reply: a proxy without a service behind it.
async fn answering(status: u16, kind: &str, body: &str) -> HttpProxy {
    let proxy = HttpProxy::start(SocketAddr::from(([127, 0, 0, 1], 1))).await.expect("loopback works");
    let length = body.len();
    let reply = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\nx-correlation-id: c-1\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    proxy.script(When::every(""), Fault::Answer(reply.into_bytes()));
    proxy
}

#[tokio::test]
async fn an_acknowledged_order_is_logged_with_its_status_version_and_state() {
    let body = format!(r#"{{"id":"{ORDER}","status":"reserved","version":2}}"#);
    let server = answering(201, "application/json", &body).await;
    let log = RequestLog::default();
    let client = Client::new(&server.url()).token("secret").logged(&log, Side::Order, "alice");
    let reply =
        client.post("/v1/orders").key("key-0123456789abcdef").json(&json!({"a": 1})).send().await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.json()["status"].as_str()), (201, Some("reserved")));

    let sent = &server.exchanges()[0].request;
    assert_eq!(sent.header("authorization").as_deref(), Some("Bearer secret"));
    assert_eq!(sent.header("idempotency-key").as_deref(), Some("key-0123456789abcdef"));
    assert_eq!(sent.body(), br#"{"a":1}"#);

    let requests = log.requests();
    let logged = requests[0].reply.as_ref().unwrap();
    assert_eq!(
        (requests.len(), requests[0].principal.as_str(), requests[0].correlation_id.as_str()),
        (1, "alice", "c-1")
    );
    assert_eq!(requests[0].key_hash, Some(hex(KeyHash::of("key-0123456789abcdef").as_bytes())));
    assert_eq!((logged.status, logged.version, logged.state.as_deref()), (201, Some(2), Some("reserved")));
    assert_eq!(logged.aggregate.map(|id| id.to_string()).as_deref(), Some(ORDER));
    assert_eq!(logged.body_hash, hex(&hash(body.as_bytes())));
    assert!(logged.is_final());
}

#[tokio::test]
async fn a_refused_order_is_logged_as_rejected_and_final() {
    let body = format!(
        r#"{{"type":"urn:mainstay:problem:insufficient-stock","status":409,"outcome":"refused","order_id":"{ORDER}"}}"#
    );
    let server = answering(409, "application/problem+json", &body).await;
    let log = RequestLog::default();
    let client = Client::new(&server.url()).logged(&log, Side::Order, "alice");
    let reply = client.post("/v1/orders").send().await.unwrap().expect(409);
    assert_eq!(reply.problem().as_deref(), Some("insufficient-stock"));
    let requests = log.requests();
    let logged = requests[0].reply.as_ref().unwrap();
    assert_eq!((logged.state.as_deref(), logged.outcome.as_deref()), (Some("rejected"), Some("refused")));
    assert!(logged.is_final() && !logged.is_not_executed());
}

#[tokio::test]
async fn a_request_that_was_not_sent_is_logged_as_not_executed_and_a_lost_reply_as_unknown() {
    let server = answering(200, "application/json", "{}").await;
    let log = RequestLog::default();
    let client =
        Client::new(&server.url()).logged(&log, Side::Order, "alice").patience(Duration::from_millis(200));
    server.close().await;
    assert!(matches!(client.post("/").send().await, Err(Unanswered::NoConnection(_))));
    server.open().await;
    server.heal();
    server.script(When::next(""), Fault::LoseRequest(Ending::Reset));
    assert!(matches!(client.post("/").send().await, Err(Unanswered::Broken(_))));
    server.script(When::next(""), Fault::LoseRequest(Ending::Hang));
    assert!(matches!(client.post("/").send().await, Err(Unanswered::Silence(_))));

    let logged: Vec<_> = log.requests().into_iter().map(|request| request.reply).collect();
    assert!(logged[0].as_ref().is_some_and(checker::ClientReply::is_not_executed), "{logged:?}");
    assert_eq!(logged[1..], [None, None]);
}

#[tokio::test]
#[should_panic(expected = "expected 201, got 200 OK")]
async fn an_unexpected_status_shows_the_whole_reply() {
    let server = answering(200, "application/json", "{}").await;
    Client::new(&server.url()).get("/").send().await.unwrap().expect(201);
}
