//! The accept loop against clients that dribble, stall, stay or come in crowds.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use chassis::server::{Ending, Limits};
use common::{Connection, ask, in_time, request, start, until};
use tokio::sync::Notify;
use tokio::time::Instant;

const GRACE: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(300);

fn routes() -> Router {
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/echo", post(|body: String| async { body }))
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let service = start(routes(), Limits::default(), GRACE).await;
    let mut connection = Connection::open(service.public).await;
    for _ in 0..3 {
        let reply = connection.ask(request("GET /hello", &[], "")).await;
        assert_eq!((reply.status, reply.body.as_slice()), (200, &b"hello"[..]));
    }
    let reply = connection.ask(request("POST /echo", &[], "back")).await;
    assert_eq!(reply.body, b"back");
}

#[tokio::test]
async fn a_head_that_dribbles_is_cut_at_its_limit_however_often_it_moves() {
    let service = start(routes(), Limits { head: SHORT, ..Limits::default() }, GRACE).await;
    let mut connection = Connection::open(service.public).await;
    let began = Instant::now();
    let dribble = async {
        connection.send("GET /hello HTTP/1.1\r\nHost: test\r\n").await;
        while connection.is_quiet() {
            connection.send("X-A: b\r\n").await;
            tokio::time::sleep(SHORT / 6).await;
        }
    };
    in_time(dribble).await;
    connection.closed().await;
    assert!(began.elapsed() >= SHORT, "a head gets its time: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_connection_that_never_says_anything_is_closed_like_a_dribbling_head() {
    let service = start(routes(), Limits { head: SHORT, ..Limits::default() }, GRACE).await;
    Connection::open(service.public).await.closed().await;
}

#[tokio::test]
async fn the_second_request_of_a_connection_gets_the_same_limit() {
    let service = start(routes(), Limits { head: SHORT, ..Limits::default() }, GRACE).await;
    let mut connection = Connection::open(service.public).await;
    assert_eq!(connection.ask(request("GET /hello", &[], "")).await.status, 200);
    connection.send("GET /hello HTTP/1.1\r\n").await;
    connection.closed().await;
}

#[tokio::test]
async fn an_idle_connection_outlives_the_heads_limit_and_not_its_own() {
    let idle = SHORT * 4;
    let service = start(routes(), Limits { head: SHORT, idle, ..Limits::default() }, GRACE).await;
    let mut connection = Connection::open(service.public).await;
    assert_eq!(connection.ask(request("GET /hello", &[], "")).await.status, 200);
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(connection.ask(request("GET /hello", &[], "")).await.status, 200, "still open while idle");
    let began = Instant::now();
    connection.closed().await;
    assert!(began.elapsed() >= SHORT * 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_that_stops_is_408_and_nothing_was_done() {
    let router = Router::new().route("/things", post(|_: chassis::ValidJson<Thing>| async { "made" }));
    let service = start(router, Limits { body_progress: SHORT, ..Limits::default() }, GRACE).await;
    let mut connection = Connection::open(service.public).await;
    let head =
        "POST /things HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n";
    let reply = connection.ask(format!("{head}{{\"name\":")).await;
    assert_eq!((reply.status, reply.problem().as_str()), (408, "request-timeout"));
    assert_eq!(reply.header("x-outcome"), Some("not-executed"));
    connection.closed().await;
}

#[tokio::test]
async fn a_body_that_outlasts_the_requests_deadline_is_408_and_nothing_was_done() {
    let router = Router::new().route("/things", post(|_: chassis::ValidJson<Thing>| async { "made" }));
    let service = start(router, Limits::default(), GRACE).await;
    let mut connection = Connection::open(service.public).await;
    let head =
        "POST /things HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 100\r\n";
    let reply = connection.ask(format!("{head}X-Deadline-Ms: 300\r\n\r\n{{\"name\":")).await;
    assert_eq!((reply.status, reply.problem().as_str()), (408, "request-timeout"));
    assert_eq!(reply.header("x-outcome"), Some("not-executed"));
    connection.closed().await;
}

#[tokio::test]
async fn a_body_that_dribbles_is_408_at_its_total_limit() {
    let router = Router::new().route("/things", post(|_: chassis::ValidJson<Thing>| async { "made" }));
    let limits = Limits { body_progress: SHORT, body_total: SHORT * 3, ..Limits::default() };
    let service = start(router, limits, GRACE).await;
    let mut connection = Connection::open(service.public).await;
    let head =
        "POST /things HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n";
    // A deadline of its own would end it first.
    connection.send(format!("{head}X-Deadline-Ms: 30000\r\n\r\n")).await;
    let began = Instant::now();
    let dribble = async {
        while connection.is_quiet() {
            connection.send(" ").await;
            tokio::time::sleep(SHORT / 6).await;
        }
    };
    in_time(dribble).await;
    assert!(began.elapsed() >= SHORT * 2, "progress counts until the total: {:?}", began.elapsed());
}

struct Thing;

impl chassis::Validate for Thing {
    type Wire = serde_json::Value;

    fn validate(_: Self::Wire) -> Result<Self, Vec<mainstay::problem::FieldError>> {
        Ok(Self)
    }
}

#[tokio::test]
async fn a_client_that_does_not_take_its_reply_is_cut() {
    let big = "x".repeat(64 * 1024 * 1024);
    let began = Arc::new(Notify::new());
    let handler = {
        let began = began.clone();
        move || async move {
            began.notify_one();
            big
        }
    };
    let router = Router::new().route("/big", get(handler));
    let service = start(router, Limits { write_progress: SHORT, ..Limits::default() }, GRACE).await;
    let mut connection = Connection::open(service.public).await;
    connection.send(request("GET /big", &[], "")).await;
    in_time(began.notified()).await;
    service.lifecycle.stop();
    // The connection ends although its client is there and reads nothing, and so a shutdown finds nothing to cut.
    assert_eq!(service.ending().await, Ending::Finished);
    drop(connection);
}

#[tokio::test]
async fn too_many_or_too_long_header_fields_are_431() {
    let service = start(routes(), Limits::default(), GRACE).await;
    let many: Vec<_> = (0..100).map(|n| format!("X-{n}: v\r\n")).collect();
    let mut connection = Connection::open(service.public).await;
    let reply = connection.ask(format!("GET /hello HTTP/1.1\r\nHost: t\r\n{}\r\n", many.concat())).await;
    assert_eq!(reply.status, 431);
    let mut connection = Connection::open(service.public).await;
    let long = "v".repeat(20 * 1024);
    let reply = connection.ask(request("GET /hello", &[("X-Long", &long)], "")).await;
    assert_eq!(reply.status, 431);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_told_so_and_seats_come_free_again() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let service = start(routes(), limits, GRACE).await;
    let mut seated = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::open(service.public).await;
        assert_eq!(connection.ask(request("GET /hello", &[], "")).await.status, 200);
        seated.push(connection);
    }
    let mut third = Connection::open(service.public).await;
    let reply = third.ask(request("GET /hello", &[("X-Correlation-Id", "case-7")], "")).await;
    assert_eq!((reply.status, reply.problem().as_str()), (503, "overloaded"));
    assert_eq!(
        (reply.header("x-correlation-id"), &reply.json()["correlation_id"]),
        (Some("case-7"), &"case-7".into())
    );
    assert_eq!(reply.header("x-outcome"), Some("not-executed"));
    assert_eq!((reply.header("retry-after"), reply.header("connection")), (Some("1"), Some("close")));
    third.closed().await;
    assert_eq!(seated[0].ask(request("GET /hello", &[], "")).await.status, 200, "those inside are served");
    assert_eq!(ask(service.operations, "GET /livez", &[], "").await.status, 200, "operations have their own");
    seated.pop();
    until(|| async { ask(service.public, "GET /hello", &[], "").await.status == 200 }).await;
}
