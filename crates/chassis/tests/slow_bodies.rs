//! One principal that sends 200 bodies slowly, over real connections, beside others that want to be served.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use chassis::server::{Limits, Signals};
use common::{Connection, Running, ask, in_time, request, start_with, until};
use mainstay::problem::FieldError;
use tokio::time::Instant;

const SLOW: (&str, &str) = ("Authorization", "Bearer shop-token");
const OTHER: (&str, &str) = ("Authorization", "Bearer order-token");
const JSON: (&str, &str) = ("Content-Type", "application/json");

struct Thing;

impl chassis::Validate for Thing {
    type Wire = serde_json::Value;

    fn validate(_: Self::Wire) -> Result<Self, Vec<FieldError>> {
        Ok(Self)
    }
}

async fn service() -> Running {
    let things = get(async || "things").post(async |_: chassis::ValidJson<Thing>| "made");
    let guarded = Router::new().route("/things", things);
    let (limits, grace) = (Limits::default(), Duration::from_secs(1));
    start_with([Router::new(), guarded], Router::new(), limits, grace, Signals::none()).await
}

/// The start of a body whose rest does not come.
fn slow_body(token: (&str, &str)) -> String {
    let headers = [token, JSON, ("X-Deadline-Ms", "30000"), ("Content-Length", "80")];
    format!("{}{{", request("POST /things", &headers, ""))
}

/// How often each refusal came.
#[derive(Debug, Default)]
struct Refused {
    too_slow: AtomicUsize,
    too_many: AtomicUsize,
}

/// Sends slow bodies, one after the other, each on a new connection: the service closes the last one.
async fn send_slowly(service: std::net::SocketAddr, refused: Arc<Refused>) {
    loop {
        let mut connection = Connection::open(service).await;
        let reply = connection.ask(slow_body(SLOW)).await;
        assert_eq!(
            (reply.header("x-outcome"), reply.header("connection")),
            (Some("not-executed"), Some("close"))
        );
        match (reply.status, reply.problem().as_str()) {
            (408, "request-timeout") => refused.too_slow.fetch_add(1, Ordering::Relaxed),
            (429, "rate-limited") => {
                assert_eq!(reply.header("retry-after"), Some("1"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                refused.too_many.fetch_add(1, Ordering::Relaxed)
            }
            _ => panic!("{reply:?}"),
        };
    }
}

#[tokio::test]
async fn two_hundred_slow_bodies_of_one_principal_keep_no_other_waiting() {
    let service = service().await;
    let refused = Arc::new(Refused::default());
    let slow: Vec<_> =
        (0..200).map(|_| tokio::spawn(send_slowly(service.public, Arc::clone(&refused)))).collect();
    // Once some are refused, its share of places is taken: as many as there are permits.
    until(|| async { refused.too_many.load(Ordering::Relaxed) >= 136 }).await;
    let mut took = Vec::new();
    while refused.too_slow.load(Ordering::Relaxed) < 64 {
        let began = Instant::now();
        let reply = ask(service.public, "GET /things", &[OTHER], "").await;
        assert_eq!(reply.status, 200);
        took.push(began.elapsed());
        let reply = ask(service.public, "POST /things", &[OTHER, JSON], "{}").await;
        assert_eq!(reply.status, 200);
    }
    took.sort_unstable();
    let (p99, most) = (took[took.len() * 99 / 100], took[took.len() - 1]);
    println!("{} reads beside slow bodies: p99 {p99:?}, at most {most:?}", took.len());
    assert!(p99 < Duration::from_secs(1), "no read waits for a slow body, which takes two seconds: {p99:?}");
    assert!(slow.iter().all(|client| !client.is_finished()), "a client met what it did not expect");
    slow.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn an_unknown_caller_is_refused_before_its_body_is_read() {
    let service = service().await;
    for token in [("Authorization", "Bearer nobody"), ("X-None", "1")] {
        let mut connection = Connection::open(service.public).await;
        let reply = connection.ask(slow_body(token)).await;
        assert_eq!((reply.status, reply.header("connection")), (401, Some("close")));
        in_time(connection.closed()).await;
    }
}
