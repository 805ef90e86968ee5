//! The laws of the crate that concern the server side, one test or more each, named after them.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use mainstay::context::Priority;
use mainstay::limit::{Admission, Bounds, QueueConfig, Refusal};
use mainstay::server::{
    ConfigError, DeadlinePolicy, LimitConfig, LogFields, RateLimitConfig, ServerConfig, stack,
};
use mainstay::{Deadline, RequestContext};
use serde_json::Value;
use tower::{Layer as _, ServiceExt as _};

use crate::support::{Crowd, Ears, body, config, limited, ok, problem, request, send, service};

fn answering(status: u16, outcome: Option<&'static str>) -> Response<Full<bytes::Bytes>> {
    let mut reply = ok();
    *reply.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Some(outcome) = outcome {
        reply.headers_mut().insert("x-outcome", outcome.parse().unwrap());
    }
    reply
}

#[tokio::test]
async fn law_1_one_vocabulary_of_outcomes() {
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
    let ears = Ears::new();
    for (status, outcome, expected) in cases {
        let stacked = limited(1, 0).layer(service(move |_| async move { answering(status, outcome) }));
        body(send(&stacked, &[]).await).await;
        assert_eq!(ears.lines().last().unwrap()["outcome"], expected, "{status} {outcome:?}");
        let counted = format!(
            "mainstay_server_requests_total{{route=unmatched,method=GET,status={status},outcome={expected}}}"
        );
        assert_eq!(ears.metrics()[&counted], [1.0], "{counted}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_3_an_absolute_deadline_lives_in_the_extensions_and_bounds_everything() {
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
async fn law_3_expired_work_is_refused_before_the_handler() {
    let (ears, crowd) = (Ears::new(), Crowd::default());
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
    assert_eq!(began.elapsed().as_millis(), 100, "it leaves the queue when its deadline passes, not later");
    assert_eq!(waited.headers()["x-outcome"], "not-executed");
    assert_eq!((problem(waited).await.as_str(), crowd.most()), ("deadline-exceeded", 1));
    body(busy.await.unwrap().unwrap()).await;
    assert_eq!(crowd.most(), 1);
    let metrics = ears.metrics();
    assert_eq!(metrics["mainstay_server_shed_total{reason=deadline}"], [1.0]);
    assert_eq!(metrics["mainstay_server_shed_total{reason=expired}"], [1.0]);
    assert_eq!(metrics["mainstay_server_queue_seconds"], [0.1]);
}

#[tokio::test(start_paused = true)]
async fn law_7_a_caller_that_left_is_told_from_our_own_timeout() {
    let ears = Ears::new();
    let stacked = limited(2, 0).layer(service(|_| std::future::pending()));
    let left = tokio::spawn(stacked.clone().oneshot(request(&[])));
    tokio::task::yield_now().await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    body(send(&stacked, &[("x-deadline-ms", "10")]).await).await;
    let lines = ears.lines();
    assert_eq!(lines[0]["outcome"], "cancelled");
    assert_eq!(
        (&lines[1]["outcome"], &lines[1]["http.response.status_code"]),
        (&"unknown".into(), &504.into())
    );
}

#[tokio::test(start_paused = true)]
async fn law_7_a_reply_that_is_cut_while_it_is_sent_is_cancelled_and_one_that_is_sent_is_not() {
    let ears = Ears::new();
    let stacked = limited(2, 0).layer(service(|_| async { ok() }));
    drop(send(&stacked, &[]).await);
    body(send(&stacked, &[]).await).await;
    let head = stacked.clone().oneshot(Request::head("/").body(()).unwrap()).await.unwrap();
    drop(head);
    let outcomes: Vec<_> = ears.lines().iter().map(|l| l["outcome"].clone()).collect();
    assert_eq!(outcomes, ["cancelled", "success", "success"]);
    assert_eq!(ears.lines()[0]["http.response.status_code"], 200);
}

#[tokio::test(start_paused = true)]
async fn law_8_nothing_scarce_is_held_while_idle() {
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
async fn law_9_a_clone_of_the_stack_shares_its_limit_quota_and_drain() {
    let settings = ServerConfig {
        rate_limit: Some(RateLimitConfig::new(NonZeroU32::new(3).unwrap(), Duration::from_mins(1), |_| {
            Some("one".into())
        })),
        ..config(8, 0)
    };
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

#[tokio::test(start_paused = true)]
async fn law_10_the_queue_is_bounded_and_a_rejection_says_not_executed_and_when_to_return() {
    let (ears, stack) = (Ears::new(), limited(1, 2));
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
    assert_eq!(ears.metrics()["mainstay_server_shed_total{reason=queue-full}"], [1.0]);
    for request in admitted {
        let reply = request.await.unwrap().unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        body(reply).await;
    }
    let queued: Vec<_> = ears.lines().iter().map(|l| l["queue_ms"].as_f64().unwrap()).collect();
    assert_eq!(queued, [0.0, 0.0, 20.0, 40.0]);
}

#[tokio::test(start_paused = true)]
async fn law_10_what_matters_more_goes_first_and_takes_the_place_of_what_matters_less() {
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
    // Sheddable work may fill four fifths of the limit: one permit of two. The second waits though one is free.
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
    // The critical one finds the queue full and displaces the waiting sheddable one.
    assert_eq!(seen, [(200, 20), (503, 0), (200, 20), (200, 40), (200, 40)]);
}

#[tokio::test(start_paused = true)]
async fn law_10_a_request_cannot_claim_more_priority_than_it_is_allowed() {
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
async fn a_snapshot_says_what_the_stack_is_doing() {
    let settings = ServerConfig {
        rate_limit: Some(RateLimitConfig::new(NonZeroU32::MIN, Duration::from_secs(5), |head| {
            Some(head.uri.path().into())
        })),
        ..config(1, 4)
    };
    let stack = stack(settings).unwrap();
    let stacked = stack.layer(service(|_| std::future::pending()));
    let requests: Vec<_> = ["/a", "/b", "/c"]
        .map(|path| tokio::spawn(stacked.clone().oneshot(Request::get(path).body(()).unwrap())))
        .into();
    tokio::time::sleep(Duration::from_millis(150)).await;
    let expected = serde_json::json!({
        "in_flight": 3,
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
async fn law_11_an_adaptive_limit_shrinks_on_what_the_stack_cuts_off_and_grows_only_when_used() {
    let ears = Ears::new();
    let settings = ServerConfig {
        limit: LimitConfig::Gradient(Bounds { start: 10, ..Bounds::default() }),
        queue: QueueConfig { capacity: Some(0), ..QueueConfig::default() },
        ..ServerConfig::default()
    };
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
    assert_eq!(stack.limiter().snapshot().limit, 10, "one at a time does not use a limit of ten");
    for _ in 0..20 {
        body(send(&stacked, &[("x-hang", "1"), ("x-deadline-ms", "200")]).await).await;
    }
    let floor = stack.limiter().snapshot();
    assert_eq!((floor.limit, floor.algorithm), (4, "gradient"));
    assert_eq!(ears.metrics()["mainstay_server_concurrency_limit"], [4.0]);
    for _ in 0..300 {
        let four = (0..4).map(|_| async { body(send(&stacked, &[]).await).await });
        join_all(four).await;
    }
    assert!(stack.limiter().snapshot().limit > 4, "four at a time do use a limit of four");
    let cancelled = tokio::spawn(stacked.clone().oneshot(request(&[("x-hang", "1")])));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = stack.limiter().snapshot().limit;
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    body(send(&stacked, &[]).await).await;
    assert_eq!(stack.limiter().snapshot().limit, before, "a caller that left says nothing of load");
}

#[tokio::test(start_paused = true)]
async fn law_12_every_decision_is_on_the_trail_and_on_the_canonical_line_with_its_numbers() {
    let ears = Ears::new();
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

    let line = ears.lines().pop().unwrap();
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
    assert_ne!(line["span_id"], "00f067aa0ba902b7", "this hop has a span of its own");
    let span = ears.at("span mainstay::server").pop().unwrap();
    assert_eq!(span["parent_span_id"], "00f067aa0ba902b7", "whose parent is the caller's");
    assert_eq!((&span["span_id"], &span["otel.kind"]), (&line["span_id"], &"server".into()));
    let decisions: Value = serde_json::from_str(line["decisions"].as_str().unwrap()).unwrap();
    assert_eq!(decisions[0]["layer"], "load_shed");
    assert_eq!(decisions[0]["action"], "admit");
    assert_eq!(decisions[0]["why"], "admitted after 25 ms in the queue");
    assert_eq!(decisions[0]["attempt"], 2);
    assert_eq!(decisions[0]["deadline_left_ms"], 975);
    let told = ears.at("mainstay::decision").pop().unwrap();
    assert_eq!((&told["layer"], &told["correlation_id"]), (&"load_shed".into(), &"order-9".into()));
}

#[tokio::test(start_paused = true)]
async fn law_13_errors_are_typed_and_say_what_remains() {
    let stack = limited(1, 0);
    let Admission::Admitted(permit) =
        stack.limiter().admit(Priority::default(), Deadline::after(Duration::MAX))
    else {
        panic!("there was room")
    };
    let refused = stack.limiter().admit(Priority::default(), Deadline::after(Duration::from_secs(1)));
    assert!(matches!(refused, Admission::Refused(Refusal::QueueFull)));
    drop(permit);

    let wrong = ServerConfig {
        deadline: DeadlinePolicy { default: Duration::from_secs(3), max: Duration::from_secs(1) },
        ..config(0, 0)
    };
    let ConfigError { problems } = mainstay::server::stack(wrong).unwrap_err();
    let fields: Vec<_> = problems.iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["deadline.max", "limit"], "every wrong setting is named at once");
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_per_principal_and_told_in_the_standard_headers() {
    let ears = Ears::new();
    let settings = ServerConfig {
        rate_limit: Some(RateLimitConfig::new(
            NonZeroU32::new(2).unwrap(),
            Duration::from_secs(10),
            |head| head.headers.get("x-who").and_then(|v| v.to_str().ok()).map(Into::into),
        )),
        ..config(8, 0)
    };
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
    assert_eq!(seen[3].0, 200, "another principal's quota is its own");
    let anonymous = send(&stacked, &[]).await;
    assert!(!anonymous.headers().contains_key("ratelimit"), "nobody's quota, nothing to tell");
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(
        send(&stacked, &[("x-who", "a")]).await.status(),
        StatusCode::OK,
        "Retry-After told the truth"
    );
    assert_eq!(ears.metrics()["mainstay_server_shed_total{reason=rate-limit}"], [1.0]);
    let refused = send(&stacked, &[("x-who", "a")]).await;
    assert_eq!(refused.headers()["x-outcome"], "not-executed");
    assert_eq!(problem(refused).await, "rate-limited");
}

#[tokio::test(start_paused = true)]
async fn draining_refuses_the_new_finishes_the_old_and_says_when_it_is_done() {
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
        assert_eq!(reply.status(), StatusCode::OK, "what was in hand, queued or running, is finished");
        body(reply).await;
    }
    done.await.unwrap();
    assert_eq!(drain.in_flight(), 0);
    drain.drained().await;
}

#[tokio::test]
async fn a_panic_gives_everything_back_and_is_logged_under_the_correlation_id() {
    let (ears, stack) = (Ears::new(), limited(1, 0));
    let stacked = stack.layer(service(|request| async move {
        assert!(request.headers().contains_key("x-fine"), "no such stock");
        ok()
    }));
    for _ in 0..3 {
        let reply = send(&stacked, &[("x-correlation-id", "p-1")]).await;
        assert_eq!(reply.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = body(reply).await;
        assert_eq!((&body["outcome"], &body["same_key"]), (&"unknown".into(), &true.into()));
        assert!(!body.to_string().contains("no such stock"), "the inside is not told outside");
    }
    assert_eq!(send(&stacked, &[("x-fine", "yes")]).await.status(), StatusCode::OK);
    assert_eq!(stack.limiter().snapshot().in_flight, 0);
    assert_eq!(ears.metrics()["mainstay_server_panics_total"], [3.0]);
    let told = &ears.at("mainstay::panic")[0];
    assert_eq!((&told["panic"], &told["correlation_id"]), (&"no such stock".into(), &"p-1".into()));
    assert_eq!(ears.lines()[0]["outcome"], "unknown");
}

#[tokio::test]
async fn a_panic_in_call_itself_is_a_reply_too() {
    let stacked = limited(1, 0).layer(service(|request| {
        assert!(request.headers().contains_key("x-fine"), "before there is a future");
        async { ok() }
    }));
    assert_eq!(send(&stacked, &[]).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
}
