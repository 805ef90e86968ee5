//! The order of the stack, shown from outside: for each pair of neighbours, a request that both would refuse shows
//! which one refused it first.

use std::num::NonZeroU32;
use std::time::Duration;

use http::StatusCode;
use mainstay::server::{RateLimitConfig, ServerStack, stack};
use tower::{Layer as _, ServiceExt as _};

use crate::support::{Recorder, body, config, ok, problem, request, send, service};

const OVER: (&str, &str) = ("x-who", "a");

/// One permit, no queue, one request per principal and minute.
fn strict() -> ServerStack {
    stack(
        config(1, 0)
            .rate_limit(Some(RateLimitConfig::new(NonZeroU32::MIN, Duration::from_mins(1), |head| {
                head.headers.get("x-who").and_then(|v| v.to_str().ok()).map(Into::into)
            })))
            .max_body(Some(1_000)),
    )
    .unwrap()
}

#[tokio::test]
async fn the_canonical_line_has_the_ids_and_every_refusal_and_panic() {
    let (recorder, stack) = (Recorder::new(), strict());
    let stacked = stack.layer(service(|request| async move {
        assert!(!request.headers().contains_key("x-panic"));
        ok()
    }));
    body(send(&stacked, &[OVER, ("x-correlation-id", "c-0")]).await).await;
    body(send(&stacked, &[OVER, ("x-correlation-id", "c-1")]).await).await;
    body(send(&stacked, &[("x-panic", "1"), ("x-correlation-id", "c-2")]).await).await;
    body(send(&stacked, &[("x-deadline-ms", "0"), ("x-correlation-id", "c-3")]).await).await;
    stack.drain().start();
    body(send(&stacked, &[("x-correlation-id", "c-4")]).await).await;
    let lines: Vec<_> = recorder
        .lines()
        .iter()
        .map(|l| (l["correlation_id"].as_str().unwrap().to_owned(), l["http.response.status_code"].clone()))
        .collect();
    let expected = [("c-0", 200), ("c-1", 429), ("c-2", 500), ("c-3", 504), ("c-4", 503)];
    assert_eq!(lines, expected.map(|(id, status)| (id.to_owned(), status.into())));
}

#[tokio::test]
async fn draining_comes_before_the_deadline_and_the_quota() {
    let stack = strict();
    let stacked = stack.layer(service(|_| async { ok() }));
    stack.drain().start();
    assert_eq!(problem(send(&stacked, &[("x-deadline-ms", "0"), OVER]).await).await, "shutting-down");
}

#[tokio::test]
async fn an_expired_request_uses_no_quota() {
    let stacked = strict().layer(service(|_| async { ok() }));
    assert_eq!(problem(send(&stacked, &[("x-deadline-ms", "0"), OVER]).await).await, "deadline-exceeded");
    assert_eq!(send(&stacked, &[OVER]).await.status(), StatusCode::OK);
    assert_eq!(problem(send(&stacked, &[("x-deadline-ms", "0"), OVER]).await).await, "deadline-exceeded");
}

#[tokio::test(start_paused = true)]
async fn a_principal_over_its_quota_is_refused_before_the_queue() {
    let stacked = strict().layer(service(|_| std::future::pending()));
    let busy = tokio::spawn(stacked.clone().oneshot(request(&[OVER])));
    tokio::task::yield_now().await;
    assert_eq!(problem(send(&stacked, &[OVER]).await).await, "rate-limited");
    assert_eq!(problem(send(&stacked, &[("x-who", "b")]).await).await, "overloaded");
    busy.abort();
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_costs_quota_but_no_slot_in_the_queue() {
    let large = ("content-length", "1001");
    let stacked = strict().layer(service(|_| std::future::pending()));
    let busy = tokio::spawn(stacked.clone().oneshot(request(&[])));
    tokio::task::yield_now().await;
    let refused = send(&stacked, &[large, OVER]).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(problem(refused).await, "payload-too-large");
    assert_eq!(problem(send(&stacked, &[large, OVER]).await).await, "rate-limited");
    assert_eq!(problem(send(&stacked, &[("content-length", "1000")]).await).await, "overloaded");
    busy.abort();
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_caught_outside_the_permit_and_the_backstop() {
    let stack = strict();
    let stacked = stack.layer(service(|_| async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        panic!("late")
    }));
    for _ in 0..2 {
        assert_eq!(problem(send(&stacked, &[]).await).await, "internal");
        assert_eq!(stack.limiter().snapshot().in_flight, 0);
    }
}
