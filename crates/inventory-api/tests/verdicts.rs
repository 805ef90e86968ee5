//! Tests that the typed client and the client stack have the same verdict on each reply.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use inventory_api::{Answer, CallContext, InventoryClient, Line, Subject};
use mainstay::client::{self, ClientConfig, ClientRequest};
use mainstay::retry::RetryConfig;
use mainstay::{CallError, RequestContext};
use tower::service_fn;
use uuid::Uuid;

const URL: &str = "http://127.0.0.1:8081";

/// What the typed client answers to `reply`, and the failures that the breaker counts.
async fn verdicts(status: StatusCode, body: &str) -> (Answer<inventory_api::Reservation>, u64) {
    let body = Bytes::from(body.to_owned());
    let transport = service_fn(move |_: ClientRequest| {
        let reply = Response::builder().status(status).body(body.clone());
        async { Ok::<_, CallError>(reply.expect("a status and a body make a reply")) }
    });
    let retry = RetryConfig::default().max_attempts(1);
    let stack = client::stack(ClientConfig::new("inventory").retry(retry), transport)
        .expect("the default settings are in range");
    let client = InventoryClient::new(stack.clone(), URL, "token").expect("the token can be sent");
    let context = CallContext {
        request: RequestContext::background(Duration::from_secs(1)),
        key: Uuid::nil(),
        causation_id: None,
        clock: String::new(),
        is_repeat: false,
    };
    let lines = vec![Line { sku: "A".to_owned(), quantity: 3 }].into();
    let subject = Subject { reservation_id: Uuid::nil(), order_id: Uuid::nil(), lines };
    let call = client.confirm(context, subject).await;
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

const OURS: &str = "00000000-0000-0000-0000-000000000000";
const ANOTHER: &str = "00000000-0000-0000-0000-000000000001";

/// A confirmed reservation of an order.
fn confirmed(id: &str, order: Option<&str>) -> (StatusCode, String) {
    let order = order.map_or("null".to_owned(), |order| format!("\"{order}\""));
    let body = format!(
        r#"{{"id": "{id}", "order_id": {order}, "status": "confirmed", "lines": [], "expires_at": null}}"#
    );
    (StatusCode::OK, body)
}

/// A problem of inventory's with `members` of its own.
fn refused(status: StatusCode, name: &str, members: &str) -> (StatusCode, String) {
    let body = format!(
        r#"{{"type": "urn:mainstay:problem:{name}", "title": "No", "status": {}, "retryable": false,
            "same_key": true{members}}}"#,
        status.as_u16()
    );
    (status, body)
}

#[tokio::test]
async fn a_reply_about_another_reservation_order_or_sku_decides_nothing() {
    let of = |id: &str| format!(r#", "reservation_id": "{id}""#);
    let skus = |skus: &str| {
        refused(StatusCode::UNPROCESSABLE_ENTITY, "unknown-sku", &format!(r#", "skus": [{skus}]"#))
    };
    let short = |lines: &str| {
        refused(StatusCode::CONFLICT, "insufficient-stock", &format!(r#", "short_lines": [{lines}]"#))
    };
    let short_of = |sku: &str| short(&format!(r#"{{"sku": "{sku}", "requested": 3, "available": 1}}"#));
    let decide = [
        confirmed(OURS, Some(OURS)),
        refused(StatusCode::GONE, "reservation-expired", &of(OURS)),
        skus(r#""A""#),
        short_of("A"),
    ];
    for (status, body) in decide {
        let (answer, failures) = verdicts(status, &body).await;
        assert!(matches!(answer, Answer::Applied(_) | Answer::Refused(_)), "{status} {body}: {answer:?}");
        assert_eq!(failures, 0, "{status} {body}");
    }
    let decide_nothing = [
        confirmed(ANOTHER, Some(OURS)),
        confirmed(OURS, Some(ANOTHER)),
        confirmed(OURS, None),
        refused(StatusCode::GONE, "reservation-expired", &of(ANOTHER)),
        refused(StatusCode::GONE, "reservation-expired", r#", "reservation_id": 7"#),
        refused(StatusCode::CONFLICT, "reservation-voided", &of(ANOTHER)),
        skus(r#""B""#),
        skus(r#""A", "B""#),
        skus(""),
        short_of("B"),
        short(""),
    ];
    for (status, body) in decide_nothing {
        let (answer, failures) = verdicts(status, &body).await;
        assert!(matches!(answer, Answer::Unknown(_)), "{status} {body}: {answer:?}");
        assert_eq!(failures, 1, "{status} {body}");
    }
}

#[tokio::test]
async fn a_peers_words_are_cut_before_they_go_into_the_journal() {
    let long = "\u{e9}".repeat(100_000);
    let detail = format!(r#", "detail": "{long}""#);
    let from = format!(r#", "from": "{long}""#);
    for (status, body) in [
        refused(StatusCode::INTERNAL_SERVER_ERROR, "internal", &detail),
        refused(StatusCode::INTERNAL_SERVER_ERROR, "write-refused", &detail),
        refused(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", &detail),
        refused(StatusCode::CONFLICT, "illegal-transition", &from),
        (StatusCode::OK, format!(r#"{{"id": "{long}"}}"#)),
    ] {
        let (answer, _) = verdicts(status, &body).await;
        let kept = format!("{answer:?}").chars().count();
        assert!(kept <= 400, "{status}: {kept} characters are kept");
    }
}
