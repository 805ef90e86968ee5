//! What a request must look like, and what is said when it does not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use chassis::auth::{Clients, ClientsAndOperators};
use chassis::server::{Limits, Signals};
use chassis::{
    ApiError, Caller, EmptyBody, IdempotencyKey, Page, ValidJson, ValidPath, ValidQuery, Validate,
};
use common::{Connection, Reply, Running, ask, request, start_with};
use mainstay::problem::FieldError;
use mainstay::server::LogFields;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Serialize, Deserialize)]
struct Basket {
    customer: String,
    lines: Vec<Line>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    sku: String,
    quantity: u32,
}

impl Validate for Basket {
    type Wire = Self;

    fn validate(wire: Self) -> Result<Self, Vec<FieldError>> {
        let error = |field: String, detail: &str| FieldError { field, detail: detail.to_owned() };
        let mut errors = Vec::new();
        if wire.customer.is_empty() {
            errors.push(error("customer".to_owned(), "must not be empty"));
        }
        for (index, line) in wire.lines.iter().enumerate() {
            if line.quantity == 0 {
                errors.push(error(format!("lines[{index}].quantity"), "must be at least 1"));
            }
            if line.sku.is_empty() {
                errors.push(error(format!("lines[{index}].sku"), "must not be empty"));
            }
        }
        if errors.is_empty() { Ok(wire) } else { Err(errors) }
    }
}

#[derive(Debug, Deserialize)]
struct Wanted {
    status: Option<String>,
    least: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct At {
    shelf: u32,
    place: String,
}

async fn place(
    caller: Caller<Clients>,
    key: IdempotencyKey,
    Extension(fields): Extension<LogFields>,
    ValidJson { value, fingerprint, .. }: ValidJson<Basket>,
) -> Json<Value> {
    Json(json!({
        "principal": &*caller.principal.name,
        "logged": fields.get("principal"),
        "key": key.as_str(),
        "lines": value.lines.len(),
        "fingerprint": format!("{fingerprint:?}"),
    }))
}

async fn confirm(
    _: Caller<Clients>,
    ValidPath(id): ValidPath<u32>,
    EmptyBody { fingerprint }: EmptyBody,
) -> Json<Value> {
    Json(json!({ "id": id, "fingerprint": format!("{fingerprint:?}") }))
}

async fn list(
    _: Caller<ClientsAndOperators>,
    page: Page,
    ValidQuery(wanted): ValidQuery<Wanted>,
) -> Json<Value> {
    Json(json!({ "limit": page.limit, "after": page.after, "status": wanted.status, "least": wanted.least }))
}

fn routes() -> Router {
    Router::new()
        .route("/v1/baskets", post(place).get(list))
        .route("/v1/baskets/{id}/confirm", post(confirm))
        .route(
            "/v1/shelves/{shelf}/{place}",
            get(|ValidPath(At { shelf, place }): ValidPath<At>| async move { format!("{shelf} {place}") }),
        )
        .route("/v1/broken", get(|| async { ApiError::internal("the password is hunter2") }))
        .route("/v1/seen", get(async |headers: HeaderMap| format!("{headers:?}")))
        .route("/v1/cached", get(async || ([("cache-control", "max-age=60")], "the same for an hour")))
        .route("/v1/long", get(async || "0123456789".repeat(1_000)).layer(chassis::routes::compressed()))
        .route("/v1/refused", get(long_refusal).layer(chassis::routes::compressed()))
}

async fn long_refusal() -> ApiError {
    let error = |n| FieldError { field: format!("lines[{n}]"), detail: "must not be empty".to_owned() };
    ApiError::invalid((0..100).map(error).collect())
}

async fn service() -> Running {
    let public = [Router::new(), routes()];
    start_with(public, Router::new(), Limits::default(), Duration::from_secs(5), Signals::none()).await
}

const SHOP: (&str, &str) = ("Authorization", "Bearer shop-token");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const KEY: (&str, &str) = ("Idempotency-Key", "0123456789abcdef");
const GOOD: &str = r#"{"customer": "17850", "lines": [{"sku": "85123A", "quantity": 6}]}"#;

async fn place_with(address: SocketAddr, body: &str) -> Reply {
    ask(address, "POST /v1/baskets", &[SHOP, JSON, KEY], body).await
}

#[tokio::test]
async fn a_good_request_arrives_whole() {
    let service = service().await;
    let reply = place_with(service.public, GOOD).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let body = reply.json();
    assert_eq!((&body["principal"], &body["logged"]), (&json!("shop"), &json!("shop")));
    assert_eq!((&body["key"], &body["lines"]), (&json!("0123456789abcdef"), &json!(1)));
}

#[tokio::test]
async fn callers_are_told_apart_before_anything_else_is_looked_at() {
    let service = service().await;
    let junk = "not json";
    let absent = ask(service.public, "POST /v1/baskets", &[], junk).await;
    assert_eq!((absent.status, absent.problem().as_str()), (401, "unauthenticated"));
    assert_eq!(absent.header("www-authenticate"), Some("Bearer realm=\"mainstay\""));
    for wrong in ["Bearer nobody", "Basic c2hvcA==", "shop-token", "Bearer  shop-token"] {
        let reply = ask(service.public, "POST /v1/baskets", &[("Authorization", wrong)], junk).await;
        assert_eq!(reply.status, 401, "{wrong}");
        let challenge = reply.header("www-authenticate").unwrap();
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        assert!(!String::from_utf8_lossy(&reply.body).contains("nobody"), "a token is not repeated");
    }
    for other in ["Bearer order-token", "Bearer ana-token"] {
        let reply = ask(service.public, "POST /v1/baskets", &[("Authorization", other)], junk).await;
        assert_eq!((reply.status, reply.problem().as_str()), (403, "forbidden"), "{other}");
    }
    let reply = ask(service.public, "GET /v1/baskets", &[("Authorization", "Bearer ana-token")], "").await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_key_that_is_missing_repeated_or_malformed_is_400_and_named() {
    let service = service().await;
    let post = "POST /v1/baskets";
    let reply = ask(service.public, post, &[SHOP, JSON], GOOD).await;
    assert_eq!((reply.status, reply.problem().as_str()), (400, "idempotency-key-missing"));
    assert_eq!(reply.fields(), ["Idempotency-Key"]);
    for bad in [&[KEY, KEY][..], &[("Idempotency-Key", "short")]] {
        let headers = [&[SHOP, JSON], bad].concat();
        let reply = ask(service.public, post, &headers, GOOD).await;
        assert_eq!((reply.status, reply.problem().as_str()), (400, "idempotency-key-invalid"));
    }
}

#[tokio::test]
async fn what_is_not_json_is_415_400_or_413_and_says_where() {
    let service = service().await;
    for media in ["text/plain", "application/json; charset=latin1", "application/jsonp", ""] {
        let reply =
            ask(service.public, "POST /v1/baskets", &[SHOP, KEY, ("Content-Type", media)], GOOD).await;
        assert_eq!((reply.status, reply.problem().as_str()), (415, "unsupported-media-type"), "{media}");
        assert_eq!(reply.fields(), ["Content-Type"]);
    }
    let utf8 = ("Content-Type", "Application/JSON; charset=\"UTF-8\"");
    assert_eq!(ask(service.public, "POST /v1/baskets", &[SHOP, KEY, utf8], GOOD).await.status, 200);

    let reply = place_with(service.public, "{\n  \"customer\": oops}").await;
    assert_eq!((reply.status, reply.problem().as_str()), (400, "malformed-json"));
    assert!(reply.json()["errors"][0]["detail"].as_str().unwrap().contains("line 2"), "{reply:?}");
    let twice = GOOD.replace("\"sku\": \"85123A\"", "\"sku\": \"85123A\", \"sku\": \"other\"");
    let reply = place_with(service.public, &twice).await;
    assert_eq!((reply.status, reply.problem().as_str()), (400, "malformed-json"));
    assert!(
        reply.json()["errors"][0]["detail"]
            .as_str()
            .unwrap()
            .contains("duplicate field `sku` at line 1 column")
    );
    assert_eq!(place_with(service.public, "").await.status, 400);
    // What serde_json's own tree of values takes for JSON that is there already, and would parse unchecked.
    let within = serde_json::json!({ "$serde_json::private::RawValue": GOOD }).to_string();
    let reply = place_with(service.public, &within).await;
    assert_eq!((reply.status, reply.problem().as_str()), (422, "validation-failed"));
    assert_eq!(reply.json()["errors"][0]["detail"], "missing field `customer`");

    let fitting = format!("{}{}", GOOD, " ".repeat(256 * 1024 - GOOD.len()));
    assert_eq!(place_with(service.public, &fitting).await.status, 200);
    let reply = place_with(service.public, &format!("{fitting} ")).await;
    assert_eq!((reply.status, reply.problem().as_str()), (413, "payload-too-large"));
    let chunk = format!("{:x}\r\n{}\r\n", 300 * 1024, " ".repeat(300 * 1024));
    let head = common::request("POST /v1/baskets", &[SHOP, JSON, KEY, ("Transfer-Encoding", "chunked")], "");
    let mut connection = common::Connection::open(service.public).await;
    for _ in 0..2 {
        let reply = connection.ask(format!("{head}{chunk}0\r\n\r\n")).await;
        assert_eq!((reply.status, reply.problem().as_str()), (413, "payload-too-large"));
        assert_eq!(reply.header("connection"), None, "it was read to its end, so the connection goes on");
    }
    let endless =
        common::request("POST /v1/baskets", &[SHOP, JSON, KEY, ("Content-Length", "1000000000")], "");
    connection.send(endless).await;
    connection.send(" ".repeat(1024 * 1024)).await;
    assert!(connection.is_quiet(), "the bound is not yet passed");
    connection.send(" ").await;
    let reply = connection.reply().await;
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
    connection.closed().await;
}

#[tokio::test]
async fn what_is_json_and_wrong_is_422_with_the_path_of_every_field() {
    let service = service().await;
    for (body, path) in [
        (r#"{"customer": 5, "lines": []}"#, "customer"),
        (r#"{"customer": "a"}"#, "body"),
        ("[]", "body"),
        (
            r#"{"customer": "a", "lines": [{"sku": "a", "quantity": 1}, {"sku": "b", "quantity": -1}]}"#,
            "lines[1].quantity",
        ),
        (r#"{"customer": "a", "lines": [{"sku": "a", "quantity": 1.5}]}"#, "lines[0].quantity"),
    ] {
        let reply = place_with(service.public, body).await;
        assert_eq!((reply.status, reply.problem().as_str()), (422, "validation-failed"), "{body}");
        assert_eq!(reply.fields(), [path], "{body}");
    }
    let bad = r#"{"customer": "", "lines": [{"sku": "", "quantity": 0}]}"#;
    let reply = place_with(service.public, bad).await;
    assert_eq!(reply.fields(), ["customer", "lines[0].quantity", "lines[0].sku"]);
    assert_eq!(reply.header("x-outcome"), Some("not-executed"));
}

#[tokio::test]
async fn a_fingerprint_is_equal_for_a_repeat_and_for_nothing_else() {
    let service = service().await;
    let print = async |body: &str| place_with(service.public, body).await.json()["fingerprint"].clone();
    let first = print(GOOD).await;
    let spaced = r#" { "lines": [ { "quantity": 6.0e0, "sku": "\u00385123A" } ], "customer":"17850" } "#;
    assert_eq!(
        print(&spaced.replace("6.0e0", "6")).await,
        first,
        "spaces, order and escapes make no difference"
    );
    assert_ne!(print(&GOOD.replace('6', "7")).await, first);
    assert_ne!(print(&GOOD.replace("17850", "17850 ")).await, first);
    let empty = async |line: &str, headers: &[(&str, &str)], body: &str| {
        ask(service.public, line, headers, body).await.json()["fingerprint"].clone()
    };
    let none = empty("POST /v1/baskets/1/confirm", &[SHOP], "").await;
    assert_eq!(empty("POST /v1/baskets/1/confirm", &[SHOP, JSON], "{}").await, none);
    assert_eq!(empty("POST /v1/baskets/%31/confirm", &[SHOP], "").await, none);
    assert_ne!(empty("POST /v1/baskets/2/confirm", &[SHOP], "").await, none);
    assert_ne!(empty("POST /v1/baskets/1/confirm?a=1", &[SHOP], "").await, none);
    assert_eq!(
        empty("POST /v1/baskets/1/confirm?a=1&b=2", &[SHOP], "").await,
        empty("POST /v1/baskets/1/confirm?b=2&a=%31", &[SHOP], "").await
    );
    let reply = ask(service.public, "POST /v1/baskets/1/confirm", &[SHOP, JSON], r#"{"a": 1}"#).await;
    assert_eq!((reply.status, reply.fields()), (422, vec!["body".to_owned()]));
}

#[tokio::test]
async fn malformed_parameters_are_400_and_named() {
    let service = service().await;
    let get = async |path: &str| ask(service.public, &format!("GET {path}"), &[SHOP], "").await;
    for (path, field) in [
        ("/v1/baskets?limit=0", "limit"),
        ("/v1/baskets?limit=501", "limit"),
        ("/v1/baskets?limit=ten", "limit"),
        ("/v1/baskets?limit=1&limit=2", "limit"),
        ("/v1/baskets?after=", "after"),
        ("/v1/baskets?least=-1", "least"),
        ("/v1/shelves/x/a", "shelf"),
        ("/v1/shelves/1/%ff", "place"),
    ] {
        let reply = get(path).await;
        assert_eq!((reply.status, reply.problem().as_str()), (400, "malformed-parameter"), "{path}");
        assert_eq!(reply.fields(), [field], "{path}");
    }
    let reply = ask(service.public, "POST /v1/baskets/x/confirm", &[SHOP], "").await;
    assert_eq!((reply.status, reply.fields()), (400, vec!["id".to_owned()]));
    assert_eq!(
        get("/v1/baskets").await.json(),
        json!({"limit": 50, "after": null, "status": null, "least": null})
    );
    assert_eq!(
        get("/v1/baskets?limit=500&after=c&status=a%20b&least=3").await.json(),
        json!({"limit": 500, "after": "c", "status": "a b", "least": 3})
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let service = service().await;
    let reply = ask(service.public, "GET /nowhere", &[], "").await;
    assert_eq!((reply.status, reply.problem().as_str()), (404, "not-found"));
    let reply = ask(service.public, "DELETE /v1/baskets", &[SHOP], "").await;
    assert_eq!((reply.status, reply.problem().as_str()), (405, "method-not-allowed"));
    let mut allowed: Vec<_> = reply.header("allow").unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    let reply = ask(service.public, "DELETE /v1/baskets", &[], "").await;
    assert_eq!((reply.status, reply.problem().as_str()), (401, "unauthenticated"));
}

#[tokio::test]
async fn every_problem_carries_the_correlation_id_and_nothing_of_the_inside() {
    let service = service().await;
    let id = ("X-Correlation-Id", "case-42");
    for (line, headers) in [
        ("GET /nowhere", vec![id]),
        ("POST /v1/baskets", vec![id]),
        ("DELETE /v1/baskets", vec![id, SHOP]),
        ("POST /v1/baskets", vec![id, SHOP]),
        ("GET /v1/broken", vec![id, SHOP]),
    ] {
        let reply = ask(service.public, line, &headers, "").await;
        assert!(reply.status >= 400, "{line}");
        assert_eq!(reply.json()["correlation_id"], "case-42", "{line}");
        assert_eq!(reply.header("x-correlation-id"), Some("case-42"), "{line}");
    }
    let reply = ask(service.public, "GET /v1/broken", &[SHOP], "").await;
    assert_eq!((reply.status, reply.problem().as_str()), (500, "internal"));
    assert_eq!(reply.header("x-outcome"), Some("unknown"));
    assert!(!String::from_utf8_lossy(&reply.body).contains("hunter2"));
}

#[tokio::test]
async fn every_reply_says_no_store_and_nosniff_unless_its_handler_says_otherwise() {
    let service = service().await;
    for (line, headers) in [
        ("GET /v1/baskets", &[SHOP][..]),
        ("GET /v1/baskets", &[]),
        ("GET /v1/broken", &[SHOP]),
        ("GET /nowhere", &[]),
    ] {
        let reply = ask(service.public, line, headers, "").await;
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{line} {reply:?}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{line} {reply:?}");
    }
    let cached = ask(service.public, "GET /v1/cached", &[SHOP], "").await;
    assert_eq!(cached.header("cache-control"), Some("max-age=60"));
}

#[tokio::test]
async fn a_debug_print_of_the_headers_shows_no_token_and_no_key() {
    let service = service().await;
    let seen = ask(service.public, "GET /v1/seen", &[SHOP, KEY, ("Accept", "text/plain")], "").await;
    let text = String::from_utf8(seen.body).unwrap();
    assert!(text.contains("text/plain") && text.contains("Sensitive"), "{text}");
    assert!(!text.contains("shop-token") && !text.contains(KEY.1), "{text}");
}

#[tokio::test]
async fn a_long_reply_is_compressed_for_a_client_that_accepts_it_and_a_problem_is_whole() {
    const GZIP: (&str, &str) = ("Accept-Encoding", "gzip");
    let service = service().await;
    let plain = ask(service.public, "GET /v1/long", &[SHOP], "").await;
    assert_eq!((plain.header("content-encoding"), plain.body.len()), (None, 10_000));
    let head = [("Connection", "close"), GZIP, SHOP];
    let mut connection = Connection::open(service.public).await;
    connection.send(request("GET /v1/long", &head, "")).await;
    let bytes = connection.rest().await;
    assert!(bytes.len() < 1_000 && bytes.windows(3).any(|part| part == [0x1f, 0x8b, 8]), "{}", bytes.len());
    let refused = ask(service.public, "GET /v1/refused", &[SHOP, GZIP], "").await;
    assert_eq!((refused.status, refused.header("content-encoding")), (422, None));
    assert_eq!(refused.fields().len(), 100);
}
