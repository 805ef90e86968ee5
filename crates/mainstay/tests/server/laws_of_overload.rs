//! Laws 10 to 13: queues, adaptive limits, decisions, errors.

use std::time::Duration;

use futures_util::future::join_all;
use http::{Response, StatusCode};
use http_body_util::Full;
use mainstay::context::Priority;
use mainstay::limit::{Admission, Algorithm, Bounds, QueueConfig, Refusal, Sample};
use mainstay::server::{ConfigError, DeadlinePolicy, LimitConfig, LogFields, ServerConfig, stack};
use mainstay::{Deadline, RequestContext};
use serde_json::Value;
use tower::{Layer as _, ServiceExt as _};

use crate::support::{Recorder, body, config, limited, ok, problem, request, send, service};

#[tokio::test(start_paused = true)]
async fn law_10_the_queue_is_bounded_and_a_rejection_says_not_executed_and_when_to_return() {
    let (recorder, stack) = (Recorder::new(), limited(1, 2));
    let stacked = stack.layer(service(|_| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        ok()
    }));
    let mut admitted: Vec<_> = Vec::new();
    for _ in 0..3 {
        admitted.push(tokio::spawn(stacked.clone().oneshot(request(&[]))));
        tokio::task::yield_now().await;
    }
    let rejected = send(&stacked, &[]).await;
    assert_eq!(rejected.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(rejected.headers()["retry-after"], "1");
    assert_eq!(rejected.headers()["x-outcome"], "not-executed");
    assert_eq!(rejected.headers()["content-type"], "application/problem+json");
    assert_eq!(problem(rejected).await, "overloaded");
    assert_eq!(recorder.metrics()["mainstay_server_shed_total{reason=queue-full}"], [1.0]);
    for request in admitted {
        let reply = request.await.unwrap().unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        body(reply).await;
    }
    let queued: Vec<_> = recorder.lines().iter().map(|l| l["queue_ms"].as_f64().unwrap()).collect();
    assert_eq!(queued, [0.0, 0.0, 20.0, 40.0]);
}

#[tokio::test(start_paused = true)]
async fn law_10_a_more_important_request_goes_first_and_displaces_a_less_important_one() {
    let stack = limited(2, 2);
    let stacked = stack.layer(service(|request| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut reply = ok();
        reply.headers_mut().insert("x-was", request.headers()["x-priority"].clone());
        reply
    }));
    let spawn = |priority: &'static str| {
        let request = stacked.clone().oneshot(request(&[("x-priority", priority)]));
        tokio::spawn(async move {
            let reply = request.await.unwrap();
            let status = reply.status().as_u16();
            body(reply).await;
            (status, tokio::time::Instant::now())
        })
    };
    // Sheddable work may fill four fifths of the limit: one permit of two. The second one waits although a permit is
    // free.
    let names = ["sheddable", "sheddable", "default", "degraded", "critical"];
    let mut requests = Vec::new();
    for name in names {
        requests.push(spawn(name));
        tokio::task::yield_now().await;
    }
    let began = tokio::time::Instant::now();
    let mut seen = Vec::new();
    for request in requests {
        let (status, at) = request.await.unwrap();
        seen.push((status, at.duration_since(began).as_millis()));
    }
    // The critical request finds the queue full and displaces the waiting sheddable one.
    assert_eq!(seen, [(200, 20), (503, 0), (200, 20), (200, 40), (200, 40)]);
}

#[tokio::test(start_paused = true)]
async fn law_10_a_request_cannot_claim_a_higher_priority_than_it_may() {
    let settings = config(8, 0).priority_ceiling(|head| {
        if head.headers.contains_key("x-operator") { Priority::Critical } else { Priority::Default }
    });
    let stacked = stack(settings).unwrap().layer(service(|request| async move {
        let context = request.extensions().get::<RequestContext>().unwrap();
        Response::new(Full::from(context.priority.as_str()))
    }));
    let cases = [
        (vec![("x-priority", "critical")], "default"),
        (vec![("x-priority", "critical"), ("x-operator", "1")], "critical"),
        (vec![("x-priority", "sheddable")], "sheddable"),
        (vec![("x-priority", "urgent")], "default"),
        (vec![("x-operator", "1")], "default"),
        (vec![], "default"),
    ];
    for (headers, expected) in cases {
        assert_eq!(body(send(&stacked, &headers).await).await, expected, "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_11_callers_with_short_deadlines_do_not_shrink_the_limit_of_the_others() {
    let bounds = Bounds::default().start(20);
    for limit in [LimitConfig::Gradient(bounds), LimitConfig::Aimd(bounds)] {
        let stack = stack(ServerConfig::default().limit(limit)).unwrap();
        let stacked = stack.layer(service(|request| async move {
            tokio::time::sleep(Duration::from_millis(80)).await;
            let mut reply = ok();
            if request.headers().contains_key("x-own-504") {
                *reply.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            }
            reply
        }));
        body(send(&stacked, &[]).await).await;
        for _ in 0..50 {
            let cut = send(&stacked, &[("x-deadline-ms", "1")]).await;
            assert_eq!(cut.status(), StatusCode::GATEWAY_TIMEOUT);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(
            stack.limiter().snapshot().limit,
            20,
            "requests cut off after 51 ms, with a usual time of 80 ms"
        );
        for _ in 0..50 {
            send(&stacked, &[("x-own-504", "1")]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(
            stack.limiter().snapshot().limit < 20,
            "a timeout after the usual time is a sign of overload"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn law_11_an_adaptive_limit_shrinks_when_requests_are_cut_off_and_grows_only_when_used() {
    let recorder = Recorder::new();
    let settings = ServerConfig::default()
        .limit(LimitConfig::Gradient(Bounds::default().start(10)))
        .queue(QueueConfig::default().capacity(Some(0)));
    let stack = stack(settings).unwrap();
    let stacked = stack.layer(service(|request| async move {
        if request.headers().contains_key("x-hang") {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        ok()
    }));
    for _ in 0..300 {
        body(send(&stacked, &[]).await).await;
    }
    assert_eq!(stack.limiter().snapshot().limit, 10, "one request at a time does not use a limit of ten");
    for _ in 0..20 {
        body(send(&stacked, &[("x-hang", "1"), ("x-deadline-ms", "200")]).await).await;
    }
    let floor = stack.limiter().snapshot();
    assert_eq!((floor.limit, floor.algorithm), (4, "gradient"));
    assert_eq!(recorder.metrics()["mainstay_server_concurrency_limit"], [4.0]);
    for _ in 0..300 {
        let four = (0..4).map(|_| async { body(send(&stacked, &[]).await).await });
        join_all(four).await;
    }
    assert!(stack.limiter().snapshot().limit > 4, "four requests at a time use a limit of four");
    let cancelled = tokio::spawn(stacked.clone().oneshot(request(&[("x-hang", "1")])));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = stack.limiter().snapshot().limit;
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    for _ in 0..300 {
        body(send(&stacked, &[]).await).await;
    }
    assert_eq!(stack.limiter().snapshot().limit, before, "a caller that left shows nothing of load");
}

/// An algorithm that doubles its limit at the first observation.
#[derive(Debug)]
struct Doubling(usize);

impl Algorithm for Doubling {
    fn limit(&self) -> usize {
        self.0
    }

    fn observe(&mut self, _: Sample) -> usize {
        self.0 = 2;
        self.0
    }

    fn name(&self) -> &'static str {
        "doubling"
    }
}

#[tokio::test(start_paused = true)]
async fn law_11_when_a_limit_grows_waiting_requests_are_served_at_once() {
    let settings = ServerConfig::default().limit(LimitConfig::Custom(Box::new(Doubling(1))));
    let stacked = stack(settings).unwrap().layer(service(|_| async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        ok()
    }));
    let first = tokio::spawn(stacked.clone().oneshot(request(&[])));
    tokio::task::yield_now().await;
    let second = tokio::spawn(stacked.clone().oneshot(request(&[])));
    let unread = first.await.unwrap().unwrap();
    let served = second.await.unwrap().unwrap();
    assert_eq!(served.status(), StatusCode::OK, "admitted while the first request's permit is still held");
    drop(unread);
}

#[tokio::test(start_paused = true)]
async fn law_12_every_decision_is_on_the_trail_and_on_the_canonical_line_with_its_numbers() {
    let recorder = Recorder::new();
    let stacked = limited(1, 1).layer(service(|request| async move {
        let context = request.extensions().get::<RequestContext>().unwrap();
        let fields = request.extensions().get::<LogFields>().unwrap();
        fields.set("principal", "client-7");
        fields.set("seen_by_handler", context.trail.snapshot().len());
        tokio::time::sleep(Duration::from_millis(25)).await;
        ok()
    }));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let first = tokio::spawn(stacked.clone().oneshot(request(&[])));
    tokio::task::yield_now().await;
    let headers = [
        ("x-correlation-id", "order-9"),
        ("traceparent", parent),
        ("x-attempt", "2"),
        ("x-priority", "critical"),
        ("x-deadline-ms", "1000"),
    ];
    let second = tokio::spawn(stacked.clone().oneshot(request(&headers)));
    tokio::task::yield_now().await;
    body(first.await.unwrap().unwrap()).await;
    body(second.await.unwrap().unwrap()).await;

    let line = recorder.lines().pop().unwrap();
    let expected: [(&str, Value); 14] = [
        ("http.request.method", "GET".into()),
        ("http.route", "unmatched".into()),
        ("http.response.status_code", 200.into()),
        ("http.response.body.size", 2.into()),
        ("outcome", "success".into()),
        ("duration_ms", 50.0.into()),
        ("deadline_left_ms", 950.into()),
        ("attempt", 2.into()),
        ("priority", "critical".into()),
        ("principal", "client-7".into()),
        ("correlation_id", "order-9".into()),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736".into()),
        ("queue_ms", 25.0.into()),
        ("fields", r#"{"seen_by_handler":1}"#.into()),
    ];
    for (name, value) in expected {
        assert_eq!(line[name], value, "{name}");
    }
    assert_ne!(line["span_id"], "00f067aa0ba902b7", "this hop has its own span");
    let span = recorder.at("span mainstay::server").pop().unwrap();
    assert_eq!(span["parent_span_id"], "00f067aa0ba902b7", "the parent span is the caller's");
    assert_eq!((&span["span_id"], &span["otel.kind"]), (&line["span_id"], &"server".into()));
    let decisions: Value = serde_json::from_str(line["decisions"].as_str().unwrap()).unwrap();
    assert_eq!(decisions[0]["layer"], "load_shed");
    assert_eq!(decisions[0]["action"], "admit");
    assert_eq!(decisions[0]["why"], "admitted after 25 ms in the queue");
    assert_eq!(decisions[0]["attempt"], 2);
    assert_eq!(decisions[0]["deadline_left_ms"], 975);
    let event = recorder.at("mainstay::decision").pop().unwrap();
    assert_eq!((&event["layer"], &event["correlation_id"]), (&"load_shed".into(), &"order-9".into()));
}

#[tokio::test(start_paused = true)]
async fn law_13_errors_are_typed_and_say_what_remains() {
    let stack = limited(1, 0);
    let Admission::Admitted(permit) =
        stack.limiter().admit(Priority::default(), Deadline::after(Duration::MAX))
    else {
        panic!("expected a permit")
    };
    let refused = stack.limiter().admit(Priority::default(), Deadline::after(Duration::from_secs(1)));
    assert!(matches!(refused, Admission::Refused(Refusal::QueueFull)));
    drop(permit);

    let wrong = config(0, 0).deadline(DeadlinePolicy::new(Duration::from_secs(3), Duration::from_secs(1)));
    let ConfigError { problems } = mainstay::server::stack(wrong).unwrap_err();
    let fields: Vec<_> = problems.iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["deadline.max", "limit"], "every wrong setting is named at once");
}
