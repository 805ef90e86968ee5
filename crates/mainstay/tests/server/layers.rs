//! Behaviour of single layers beyond the laws: quotas, drain, panics, the snapshot.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::Full;
use mainstay::Outcome;
use mainstay::server::{FinishedRequest, LogFields, RateLimitConfig, stack};
use tower::{Layer as _, Service as _, ServiceExt as _};

use crate::support::{Recorder, body, config, limited, ok, problem, request, send, service};

#[tokio::test(start_paused = true)]
async fn a_snapshot_reports_the_state_of_the_stack() {
    let settings = config(1, 4).rate_limit(Some(RateLimitConfig::new(
        NonZeroU32::MIN,
        Duration::from_secs(5),
        |head| Some(head.uri.path().into()),
    )));
    let stack = stack(settings).unwrap();
    let stacked = stack.layer(service(|_| std::future::pending()));
    let requests: Vec<_> = ["/a", "/b", "/c"]
        .map(|path| tokio::spawn(stacked.clone().oneshot(Request::get(path).body(Full::default()).unwrap())))
        .into();
    tokio::time::sleep(Duration::from_millis(150)).await;
    let expected = serde_json::json!({
        "in_flight": 3,
        "reading": 0,
        "draining": false,
        "limiter": {
            "algorithm": "fixed",
            "limit": 1,
            "in_flight": 1,
            "waiting": [0, 0, 2, 0],
            "queue_capacity": 4,
            "standing": true,
        },
        "rate_limit": {"quota": 1, "window_ms": 5_000, "keys": 3},
    });
    assert_eq!(serde_json::to_value(stack.snapshot()).unwrap(), expected);
    requests.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_per_principal_and_reported_in_the_standard_headers() {
    let recorder = Recorder::new();
    let settings = config(8, 0).rate_limit(Some(RateLimitConfig::new(
        NonZeroU32::new(2).unwrap(),
        Duration::from_secs(10),
        |head| head.headers.get("x-who").and_then(|v| v.to_str().ok()).map(Into::into),
    )));
    let stacked = stack(settings).unwrap().layer(service(|_| async { ok() }));
    let mut seen = Vec::new();
    for who in ["a", "a", "a", "b"] {
        let reply = send(&stacked, &[("x-who", who)]).await;
        let header =
            |name| reply.headers().get(name).map(|v: &http::HeaderValue| v.to_str().unwrap().to_owned());
        assert_eq!(header("ratelimit-policy").unwrap(), "\"principal\";q=2;w=10");
        seen.push((reply.status().as_u16(), header("ratelimit").unwrap(), header("retry-after")));
    }
    let spent = (429, "\"principal\";r=0;t=10".into(), Some("5".into()));
    assert_eq!(seen[0], (200, "\"principal\";r=1;t=5".into(), None));
    assert_eq!(seen[1], (200, "\"principal\";r=0;t=10".into(), None));
    assert_eq!(seen[2], spent);
    assert_eq!(seen[3].0, 200, "each principal has its own quota");
    let anonymous = send(&stacked, &[]).await;
    assert!(
        !anonymous.headers().contains_key("ratelimit"),
        "a request without a key uses no quota and reports none"
    );
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(
        send(&stacked, &[("x-who", "a")]).await.status(),
        StatusCode::OK,
        "a request after Retry-After is admitted"
    );
    assert_eq!(recorder.metrics()["mainstay_server_shed_total{reason=rate-limit}"], [1.0]);
    let refused = send(&stacked, &[("x-who", "a")]).await;
    assert_eq!(refused.headers()["x-outcome"], "not-executed");
    assert_eq!(problem(refused).await, "rate-limited");
}

#[tokio::test(start_paused = true)]
async fn a_drain_refuses_new_requests_finishes_old_ones_and_reports_its_end() {
    let stack = limited(1, 1);
    let drain = stack.drain();
    let stacked = stack.layer(service(|_| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        ok()
    }));
    let old: Vec<_> = (0..2).map(|_| tokio::spawn(stacked.clone().oneshot(request(&[])))).collect();
    tokio::task::yield_now().await;
    drain.start();
    assert!(drain.is_draining());
    let refused = send(&stacked, &[]).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["connection"], "close");
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.headers()["x-outcome"], "not-executed");
    assert_eq!(problem(refused).await, "shutting-down");
    let done = tokio::spawn({
        let drain = drain.clone();
        async move { drain.drained().await }
    });
    tokio::task::yield_now().await;
    assert!(!done.is_finished());
    for request in old {
        let reply = request.await.unwrap().unwrap();
        assert_eq!(reply.status(), StatusCode::OK, "requests in flight, queued or running, are finished");
        body(reply).await;
    }
    done.await.unwrap();
    assert_eq!(drain.in_flight(), 0);
    drain.drained().await;
}

#[tokio::test]
async fn a_panic_returns_every_permit_and_is_logged_under_the_correlation_id() {
    let (recorder, stack) = (Recorder::new(), limited(1, 0));
    let stacked = stack.layer(service(|request| async move {
        assert!(request.headers().contains_key("x-fine"), "unknown stock");
        ok()
    }));
    for _ in 0..3 {
        let reply = send(&stacked, &[("x-correlation-id", "p-1")]).await;
        assert_eq!(reply.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = body(reply).await;
        assert_eq!((&body["outcome"], &body["same_key"]), (&"unknown".into(), &true.into()));
        assert!(!body.to_string().contains("unknown stock"), "the reply must not contain internal details");
    }
    assert_eq!(send(&stacked, &[("x-fine", "yes")]).await.status(), StatusCode::OK);
    assert_eq!(stack.limiter().snapshot().in_flight, 0);
    assert_eq!(recorder.metrics()["mainstay_server_panics_total"], [3.0]);
    let event = &recorder.at("mainstay::panic")[0];
    assert_eq!((&event["panic"], &event["correlation_id"]), (&"unknown stock".into(), &"p-1".into()));
    assert_eq!(recorder.lines()[0]["outcome"], "unknown");
}

#[tokio::test]
async fn a_panic_in_call_itself_becomes_a_reply_too() {
    let stacked = limited(1, 0).layer(service(|request| {
        assert!(request.headers().contains_key("x-fine"), "panicked before the future exists");
        async { ok() }
    }));
    assert_eq!(send(&stacked, &[]).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_panic_returns_the_permit_before_the_future_is_dropped() {
    let stack = limited(1, 0);
    let mut stacked = stack.layer(service(|_| async { panic!("boom") }));
    let mut kept = Box::pin(stacked.ready().await.unwrap().call(request(&[])));
    let reply = kept.as_mut().await.unwrap();
    assert_eq!(reply.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(stack.limiter().snapshot().in_flight, 0);
    drop(kept);
}

#[test]
fn a_log_line_cannot_grow_without_end() {
    let fields = LogFields::default();
    for n in 0..1_000 {
        fields.set(format!("field_{n}"), n);
    }
    fields.set("field_0", "replaced");
    assert_eq!(fields.get("field_0"), Some("replaced".into()));
    assert_eq!(fields.get(&format!("field_{}", LogFields::MAX - 1)), Some((LogFields::MAX - 1).into()));
    assert_eq!(fields.get(&format!("field_{}", LogFields::MAX)), None);
}

#[tokio::test(start_paused = true)]
async fn each_request_that_has_ended_is_passed_to_the_observer_also_when_its_caller_has_left() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let settings = config(8, 0).observer(Some(Arc::new(move |request: &FinishedRequest<'_>| {
        let FinishedRequest { method, outcome, duration, fields, .. } = *request;
        let status = request.status.map(|status| status.as_u16());
        notes.lock().unwrap().push((method, outcome, status, duration, fields.read(<[_]>::len)));
    })));
    let stack = stack(settings).unwrap();
    let answered = stack.layer(service(|request| async move {
        request.extensions().get::<LogFields>().unwrap().set("lines", 3);
        ok()
    }));
    body(send(&answered, &[]).await).await;
    let stuck = stack.layer(service(|_| std::future::pending()));
    let left = tokio::time::timeout(Duration::from_secs(1), send(&stuck, &[])).await;
    assert!(left.is_err());
    let method = request(&[]).method().as_str().to_owned();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(seen[0], (&*method, Outcome::Success, Some(200), Duration::ZERO, 1));
    assert_eq!(seen[1], (&*method, Outcome::Cancelled, None, Duration::from_secs(1), 0));
}
