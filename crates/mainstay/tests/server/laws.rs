//! The laws that concern the server side. Each has one test or more, named after it.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use mainstay::RequestContext;
use mainstay::server::{RateLimitConfig, stack};
use tower::{Layer as _, ServiceExt as _};

use crate::support::{Crowd, Recorder, body, config, limited, ok, problem, request, send, service};

fn answering(status: u16, outcome: Option<&'static str>) -> Response<Full<bytes::Bytes>> {
    let mut reply = ok();
    *reply.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Some(outcome) = outcome {
        reply.headers_mut().insert("x-outcome", outcome.parse().unwrap());
    }
    reply
}

#[tokio::test]
async fn law_01_one_vocabulary_of_outcomes() {
    let cases = [
        (200, None, "success"),
        (202, None, "success"),
        (304, None, "success"),
        (400, None, "client-fault"),
        (401, None, "client-fault"),
        (404, None, "refused"),
        (409, None, "refused"),
        (410, None, "refused"),
        (422, None, "refused"),
        (429, Some("not-executed"), "throttled"),
        (500, None, "unknown"),
        (503, None, "unknown"),
        (503, Some("not-executed"), "throttled"),
        (504, Some("not-executed"), "failed-known"),
        (504, Some("unknown"), "unknown"),
    ];
    let recorder = Recorder::new();
    for (status, outcome, expected) in cases {
        let stacked = limited(1, 0).layer(service(move |_| async move { answering(status, outcome) }));
        body(send(&stacked, &[]).await).await;
        assert_eq!(recorder.lines().last().unwrap()["outcome"], expected, "{status} {outcome:?}");
        let counted = format!(
            "mainstay_server_requests_total{{route=unmatched,method=GET,status={status},outcome={expected}}}"
        );
        assert_eq!(recorder.metrics()[&counted], [1.0], "{counted}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_03_an_absolute_deadline_is_in_the_extensions_and_bounds_every_layer() {
    let stacked = limited(1, 0).layer(service(|request| async move {
        let context = request.extensions().get::<RequestContext>().unwrap().clone();
        let at_first = context.deadline.remaining();
        tokio::time::sleep(Duration::from_millis(30)).await;
        let mut reply = ok();
        let headers = reply.headers_mut();
        headers.insert("x-at-first", u64::try_from(at_first.as_millis()).unwrap().into());
        headers.insert("x-later", context.deadline.to_header_value());
        reply
    }));
    let cases = [
        (None, 2_000),
        (Some("500"), 500),
        (Some("31000"), 30_000),
        (Some("9999999999"), 30_000),
        (Some("soon"), 2_000),
        (Some("-5"), 2_000),
        (Some("99999999999"), 2_000),
    ];
    for (asked, given) in cases {
        let headers: Vec<_> = asked.map(|ms| ("x-deadline-ms", ms)).into_iter().collect();
        let reply = send(&stacked, &headers).await;
        assert_eq!(reply.headers()["x-at-first"], given.to_string(), "{asked:?}");
        assert_eq!(reply.headers()["x-later"], (given - 30).to_string(), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_03_expired_work_is_refused_before_the_handler() {
    let (recorder, crowd) = (Recorder::new(), Crowd::default());
    let stacked = {
        let crowd = crowd.clone();
        limited(1, 4).layer(service(move |_| {
            let present = crowd.enter();
            async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                drop(present);
                ok()
            }
        }))
    };
    let reply = send(&stacked, &[("x-deadline-ms", "0")]).await;
    assert_eq!((reply.status(), crowd.most()), (StatusCode::GATEWAY_TIMEOUT, 0));
    assert_eq!(reply.headers()["x-outcome"], "not-executed");
    assert_eq!(problem(reply).await, "deadline-exceeded");

    let busy = tokio::spawn(stacked.clone().oneshot(request(&[])));
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    let waited = send(&stacked, &[("x-deadline-ms", "100")]).await;
    assert_eq!(began.elapsed().as_millis(), 100, "the request leaves the queue when its deadline passes");
    assert_eq!(waited.headers()["x-outcome"], "not-executed");
    assert_eq!((problem(waited).await.as_str(), crowd.most()), ("deadline-exceeded", 1));
    body(busy.await.unwrap().unwrap()).await;
    assert_eq!(crowd.most(), 1);
    let metrics = recorder.metrics();
    assert_eq!(metrics["mainstay_server_shed_total{reason=deadline}"], [1.0]);
    assert_eq!(metrics["mainstay_server_shed_total{reason=expired}"], [1.0]);
    assert_eq!(metrics["mainstay_server_queue_seconds"], [0.1]);
}

#[tokio::test(start_paused = true)]
async fn law_07_a_caller_that_left_is_distinguished_from_our_own_timeout() {
    let recorder = Recorder::new();
    let stacked = limited(2, 0).layer(service(|_| std::future::pending()));
    let left = tokio::spawn(stacked.clone().oneshot(request(&[])));
    tokio::task::yield_now().await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    body(send(&stacked, &[("x-deadline-ms", "10")]).await).await;
    let lines = recorder.lines();
    assert_eq!(lines[0]["outcome"], "cancelled");
    assert_eq!(
        (&lines[1]["outcome"], &lines[1]["http.response.status_code"]),
        (&"unknown".into(), &504.into())
    );
}

#[tokio::test(start_paused = true)]
async fn law_07_a_reply_cut_during_sending_is_cancelled_and_a_complete_one_is_not() {
    let recorder = Recorder::new();
    let stacked = limited(2, 0).layer(service(|_| async { ok() }));
    drop(send(&stacked, &[]).await);
    body(send(&stacked, &[]).await).await;
    let head = stacked.clone().oneshot(Request::head("/").body(Full::default()).unwrap()).await.unwrap();
    drop(head);
    let empty = limited(1, 0).layer(service(|_| async { answering(204, None) }));
    drop(send(&empty, &[]).await);
    let outcomes: Vec<_> = recorder.lines().iter().map(|l| l["outcome"].clone()).collect();
    assert_eq!(outcomes, ["cancelled", "success", "success", "success"]);
    assert_eq!(recorder.lines()[0]["http.response.status_code"], 200);
}

#[tokio::test(start_paused = true)]
async fn law_08_nothing_scarce_is_held_while_idle() {
    let stack = limited(3, 3);
    let mut ready = Vec::new();
    for _ in 0..100 {
        let mut clone = stack.layer(service(|_| async { ok() }));
        clone.ready().await.unwrap();
        ready.push(clone);
    }
    let limiter = stack.limiter();
    assert_eq!(limiter.snapshot().in_flight, 0);
    for service in &ready {
        assert_eq!(send(service, &[]).await.status(), StatusCode::OK);
    }
    assert_eq!(limiter.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn law_09_a_clone_of_the_stack_shares_its_limit_quota_and_drain() {
    let settings = config(8, 0).rate_limit(Some(RateLimitConfig::new(
        NonZeroU32::new(3).unwrap(),
        Duration::from_mins(1),
        |_| Some("one".into()),
    )));
    let stack = stack(settings).unwrap();
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let stacked = stack.clone().layer(service(|_| async { ok() }));
        statuses.push(send(&stacked, &[]).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    stack.drain().start();
    let stacked = stack.clone().layer(service(|_| async { ok() }));
    assert_eq!(problem(send(&stacked, &[]).await).await, "shutting-down");
}
