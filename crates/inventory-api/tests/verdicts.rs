//! Tests that the typed client and the client stack have the same verdict on each reply.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use inventory_api::{Answer, CallContext, InventoryClient};
use mainstay::client::{self, ClientConfig, ClientRequest};
use mainstay::retry::RetryConfig;
use mainstay::{CallError, RequestContext};
use tower::service_fn;
use uuid::Uuid;

const URL: &str = "http://127.0.0.1:8081";

/// The typed client's answer to a reply, and the number of failures that the breaker counts.
async fn verdicts(status: StatusCode, body: &'static str) -> (Answer<inventory_api::Reservation>, u64) {
    let transport = service_fn(move |_: ClientRequest| async move {
        let reply = Response::builder().status(status).body(Bytes::from_static(body.as_bytes()));
        Ok::<_, CallError>(reply.expect("a status and a body make a reply"))
    });
    let retry = RetryConfig { max_attempts: 1, ..RetryConfig::default() };
    let stack = client::stack(ClientConfig { retry, ..ClientConfig::new("inventory") }, transport)
        .expect("the default settings are in range");
    let client = InventoryClient::new(stack.clone(), URL, "token").expect("the token can be sent");
    let context = CallContext {
        request: RequestContext::background(Duration::from_secs(1)),
        key: Uuid::nil(),
        causation_id: None,
        clock: String::new(),
        is_repeat: false,
    };
    let call = client.confirm(context, Uuid::nil()).await;
    (call.answer, stack.breakers().list()[0].failures)
}

#[tokio::test]
async fn a_reply_that_is_unknown_to_the_typed_client_is_no_success_to_the_breaker() {
    let replies = [
        (StatusCode::OK, "<html>"),
        (StatusCode::CREATED, r#"{"id": 7}"#),
        (StatusCode::NO_CONTENT, ""),
        (StatusCode::NOT_FOUND, "no such route"),
        (StatusCode::CONFLICT, r#"{"type": "about:blank", "title": "Conflict", "status": 409}"#),
    ];
    for (status, body) in replies {
        let (answer, failures) = verdicts(status, body).await;
        assert!(matches!(answer, Answer::Unknown(_)), "{status} {body}: {answer:?}");
        assert_eq!(failures, 1, "{status} {body}");
    }
}

#[tokio::test]
async fn a_reservation_and_a_refusal_that_can_be_read_are_good_answers() {
    let held = r#"{"id": "00000000-0000-0000-0000-000000000000", "order_id":
        "00000000-0000-0000-0000-000000000000", "status": "confirmed", "lines": [], "expires_at": null}"#;
    let gone = r#"{"type": "urn:mainstay:problem:reservation-expired", "title": "Gone", "status": 410,
        "retryable": false, "same_key": true}"#;
    let (answer, failures) = verdicts(StatusCode::OK, held).await;
    assert!(matches!(answer, Answer::Applied(_)), "{answer:?}");
    assert_eq!(failures, 0);
    let (answer, failures) = verdicts(StatusCode::GONE, gone).await;
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    assert_eq!(failures, 0);
}
