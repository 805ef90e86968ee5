//! Faults of other server middleware, each reproduced against this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Crowd, Recorder, body, config, limited, ok, request, send, service};
use futures_util::future::{join_all, poll_fn};
use http::StatusCode;
use http_body_util::BodyExt as _;
use mainstay::server::stack;
use tower::{Layer as _, Service as _, ServiceExt as _};

/// tower's LoadShed over a shared ConcurrencyLimit: a ready clone that is never called keeps the freed permit, and
/// every other request is shed while none is in flight.
#[tokio::test(start_paused = true)]
async fn an_idle_clone_that_is_ready_holds_no_permit() {
    let stacked = limited(1, 0).layer(service(|_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ok()
    }));
    let busy = tokio::spawn(stacked.clone().oneshot(request(&[])));
    tokio::task::yield_now().await;
    let mut idle = stacked.clone();
    idle.ready().await.unwrap();
    assert_eq!(
        send(&stacked, &[]).await.status(),
        StatusCode::SERVICE_UNAVAILABLE,
        "the one permit is taken"
    );
    body(busy.await.unwrap().unwrap()).await;
    assert_eq!(
        send(&stacked, &[]).await.status(),
        StatusCode::OK,
        "the permit is free again although a clone is ready"
    );
    drop(idle);
}

/// ConcurrencyLimitLayer(2) on a router let 12 requests in at once, because a layer applied again is a new limit.
#[tokio::test(start_paused = true)]
async fn a_stack_applied_for_every_connection_is_still_one_limit() {
    let (stack, crowd) = (limited(2, 0), Crowd::default());
    let replies = join_all((0..12).map(|_| {
        let crowd = crowd.clone();
        let connection = stack.layer(service(move |_| {
            let present = crowd.enter();
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                drop(present);
                ok()
            }
        }));
        connection.oneshot(request(&[]))
    }))
    .await;
    assert_eq!(crowd.most(), 2);
    let served = replies.into_iter().filter(|r| r.as_ref().unwrap().status() == StatusCode::OK).count();
    assert_eq!(served, 2);
}

/// A permit that ends with the reply's head does not limit streaming bodies.
#[tokio::test(start_paused = true)]
async fn a_permit_lives_until_the_body_has_been_sent_or_dropped() {
    let stack = limited(1, 0);
    let stacked = stack.layer(service(|_| async { ok() }));
    let streaming = send(&stacked, &[]).await;
    assert_eq!(send(&stacked, &[]).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    streaming.into_body().collect().await.unwrap();
    let dropped = send(&stacked, &[]).await;
    assert_eq!(dropped.status(), StatusCode::OK);
    drop(dropped);
    assert_eq!(stack.limiter().snapshot().in_flight, 0);
}

/// tower-http's Timeout polls its timer first: a reply that is ready at the same moment is lost.
#[tokio::test(start_paused = true)]
async fn a_reply_that_is_ready_when_the_timer_fires_is_not_lost() {
    let settings = config(1, 0);
    let until = settings.deadline.default + settings.deadline_grace;
    let stacked = stack(settings).unwrap().layer(service(move |_| async move {
        tokio::time::sleep(until).await;
        ok()
    }));
    let reply = tokio::spawn(stacked.oneshot(request(&[])));
    tokio::task::yield_now().await;
    // Both timers have fired before the request is polled again.
    tokio::time::advance(until + Duration::from_secs(1)).await;
    assert_eq!(reply.await.unwrap().unwrap().status(), StatusCode::OK);
}

/// A timeout that becomes a plain 504 hides from the outer layers that the outcome is unknown.
#[tokio::test(start_paused = true)]
async fn a_handler_that_is_cut_off_is_reported_and_recorded_as_unknown() {
    let recorder = Recorder::new();
    let stacked = limited(1, 0).layer(service(|_| std::future::pending()));
    let reply = send(&stacked, &[("x-deadline-ms", "100")]).await;
    assert_eq!(
        (reply.status(), &reply.headers()["x-outcome"]),
        (StatusCode::GATEWAY_TIMEOUT, &"unknown".parse().unwrap())
    );
    let problem = body(reply).await;
    assert_eq!(problem["outcome"], "unknown");
    assert_eq!((&problem["retryable"], &problem["same_key"]), (&true.into(), &true.into()));
    let line = &recorder.lines()[0];
    assert_eq!(line["outcome"], "unknown");
    assert!(line["decisions"].as_str().unwrap().contains("no answer 50 ms after the deadline"), "{line:?}");
    assert_eq!(recorder.metrics()["mainstay_server_deadline_overrun_total"], [1.0]);
}

/// opentelemetry-instrumentation-tower left `active_requests` at 10 for good, and recorded no duration, after ten
/// requests whose clients had disconnected.
#[tokio::test(start_paused = true)]
async fn ten_cancelled_requests_leave_nothing_in_flight_and_are_each_recorded() {
    let recorder = Recorder::new();
    let stack = limited(4, 6);
    let stacked = stack.layer(service(|_| std::future::pending()));
    let requests: Vec<_> = (0..10).map(|_| tokio::spawn(stacked.clone().oneshot(request(&[])))).collect();
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_millis(30)).await;
    assert_eq!((stack.drain().in_flight(), stack.limiter().snapshot().in_flight), (10, 4));
    for request in requests {
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
    }
    assert_eq!((stack.drain().in_flight(), stack.limiter().snapshot().in_flight), (0, 0));
    assert_eq!(stack.limiter().snapshot().waiting, [0; 4]);
    let metrics = recorder.metrics();
    assert_eq!(metrics["mainstay_server_in_flight"], [0.0]);
    assert_eq!(metrics["mainstay_server_cancelled_total"], [10.0]);
    let durations =
        &metrics["mainstay_server_request_duration_seconds{route=unmatched,method=GET,status=none}"];
    assert_eq!(durations, &[0.03; 10]);
    assert_eq!(
        metrics["mainstay_server_requests_total{route=unmatched,method=GET,status=none,outcome=cancelled}"],
        [10.0]
    );
    let lines = recorder.lines();
    assert_eq!(lines.len(), 10);
    assert!(lines.iter().all(|l| l["outcome"] == "cancelled" && l["duration_ms"] == 30.0), "{lines:?}");
}

/// tower-http's SetRequestId accepts any id of the client.
#[tokio::test]
async fn a_forged_correlation_id_reaches_neither_the_log_nor_the_reply() {
    let recorder = Recorder::new();
    let stacked = limited(1, 0).layer(service(|_| async { ok() }));
    let long = "x".repeat(65);
    let forged = ["a b", "id\tlevel=ERROR", "\"},{\"level\":\"ERROR", "", &long, "id;drop"];
    for id in forged {
        let reply = send(&stacked, &[("x-correlation-id", id)]).await;
        let minted = reply.headers()["x-correlation-id"].to_str().unwrap().to_owned();
        assert_eq!(minted.len(), 36, "{id:?} was replaced by a UUID");
        body(reply).await;
        assert_eq!(recorder.lines().last().unwrap()["correlation_id"], minted);
    }
    let twice = request(&[("x-correlation-id", "one"), ("x-correlation-id", "two")]);
    let reply = stacked.clone().oneshot(twice).await.unwrap();
    assert_ne!(reply.headers()["x-correlation-id"], "one");
    drop(reply);
    let replaced = recorder.metrics()["mainstay_server_correlation_replaced_total"].clone();
    assert_eq!(replaced, [7.0]);
    let warnings = recorder.at("mainstay::server::context");
    assert_eq!(warnings.len(), 1, "logged once a minute, not once a request");
}

/// A header that cannot be read is not trusted, and it is reported.
#[tokio::test(start_paused = true)]
async fn a_header_that_cannot_be_read_is_absent_counted_and_logged_once_a_minute() {
    let bad = [
        ("x-deadline-ms", "soon"),
        ("x-attempt", "0"),
        ("x-priority", "urgent"),
        ("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
    ];
    let recorder = Recorder::new();
    let stacked = limited(1, 0).layer(service(|request| async move {
        let context = request.extensions().get::<mainstay::RequestContext>().unwrap();
        assert_eq!(context.deadline.remaining(), Duration::from_secs(2), "the default deadline");
        assert_eq!((context.attempt, context.priority.as_str()), (1, "default"));
        assert_eq!(context.trace.parent_id, None, "a new trace");
        ok()
    }));
    let warnings = || recorder.at("mainstay::server::context").len();
    for _ in 0..3 {
        assert_eq!(send(&stacked, &bad).await.status(), 200);
    }
    assert_eq!(warnings(), bad.len(), "one warning for each header");
    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!(send(&stacked, &bad).await.status(), 200);
    assert_eq!(warnings(), 2 * bad.len(), "one more warning in the next minute");
    // The state is too long to be passed on. Without it, the trace is still the caller's.
    let (parent, state) = ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "v=".repeat(257));
    let stateless = limited(1, 0).layer(service(|request| async move {
        let trace = &request.extensions().get::<mainstay::RequestContext>().unwrap().trace;
        assert_eq!((trace.parent_id.is_some(), &trace.state), (true, &None));
        ok()
    }));
    assert_eq!(send(&stateless, &[("traceparent", parent), ("tracestate", &state)]).await.status(), 200);
    let twice = [("x-deadline-ms", "1"), ("x-deadline-ms", "2")];
    assert_eq!(send(&stacked, &twice).await.status(), 200);
    assert_eq!(send(&stacked, &[]).await.status(), 200);
    let metrics = recorder.metrics();
    for (header, _) in bad {
        // An absent header does not count as unreadable.
        let times = if header == "x-deadline-ms" { 5.0 } else { 4.0 };
        assert_eq!(metrics[&format!("mainstay_server_header_ignored_total{{header={header}}}")], [times]);
    }
    assert_eq!(metrics["mainstay_server_header_ignored_total{header=tracestate}"], [1.0]);
}

/// In other middleware the id was lost when the reply was an error.
#[tokio::test(start_paused = true)]
async fn every_refusal_and_failure_carries_the_correlation_id_in_header_and_body() {
    let stack = limited(1, 0);
    let stacked = stack.layer(service(|request| async move {
        match request.headers().get("x-do").map(|v| v.to_str().unwrap()) {
            Some("panic") => panic!("boom"),
            Some("hang") => std::future::pending().await,
            _ => ok(),
        }
    }));
    let (id, hang) = (("x-correlation-id", "abc.1"), ("x-do", "hang"));
    let mut replies = vec![send(&stacked, &[id, ("x-do", "panic")]).await];
    replies.push(send(&stacked, &[id, ("x-deadline-ms", "0")]).await);
    replies.push(send(&stacked, &[id, hang, ("x-deadline-ms", "1")]).await);
    let hanging = tokio::spawn(stacked.clone().oneshot(request(&[hang])));
    tokio::task::yield_now().await;
    replies.push(send(&stacked, &[id]).await);
    stack.drain().start();
    replies.push(send(&stacked, &[id]).await);
    hanging.abort();
    let mut seen = Vec::new();
    for reply in replies {
        assert_eq!(reply.headers()["x-correlation-id"], "abc.1");
        let (status, body) = (reply.status().as_u16(), body(reply).await);
        assert_eq!(body["correlation_id"], "abc.1");
        seen.push(status);
    }
    assert_eq!(seen, [500, 504, 504, 503, 503]);
}

/// The waiter of another coalescing layer woke itself: 1.08 million polls in 490 ms.
#[tokio::test(start_paused = true)]
async fn a_waiter_sleeps_while_it_waits() {
    let stacked = limited(1, 1).layer(service(|_| async {
        tokio::time::sleep(Duration::from_millis(490)).await;
        ok()
    }));
    let busy = tokio::spawn(stacked.clone().oneshot(request(&[])));
    tokio::task::yield_now().await;
    let polls = Arc::new(AtomicUsize::new(0));
    let mut waiting = Box::pin(stacked.clone().oneshot(request(&[])));
    let counted = {
        let polls = Arc::clone(&polls);
        poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            waiting.as_mut().poll(cx)
        })
    };
    let waiter = tokio::spawn(counted);
    body(busy.await.unwrap().unwrap()).await;
    assert_eq!(waiter.await.unwrap().unwrap().status(), StatusCode::OK);
    let polls = polls.load(Ordering::Relaxed);
    assert!(polls <= 4, "{polls} polls for one wait and one service time");
}

/// A standing first-come-first-served queue serves only requests whose callers have left.
#[tokio::test(start_paused = true)]
async fn a_standing_queue_serves_the_newest_and_refuses_the_oldest() {
    let stack = limited(1, 4);
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let stacked = {
        let order = Arc::clone(&order);
        stack.layer(service(move |request| {
            let name = request.headers()["x-name"].to_str().unwrap().to_owned();
            order.lock().unwrap().push(name);
            async {
                tokio::time::sleep(Duration::from_millis(60)).await;
                ok()
            }
        }))
    };
    let mut requests = Vec::new();
    for at in 0..8 {
        let request = request(&[("x-name", &at.to_string())]);
        let mut service = stacked.clone();
        requests.push(tokio::spawn(async move {
            let reply = service.call(request).await.unwrap();
            let status = reply.status().as_u16();
            body(reply).await;
            status
        }));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(request.await.unwrap());
    }
    // Since 30 ms, some waiter has waited longer than the target. Up to 130 ms the queue serves the oldest first: 0,
    // 1 and 2 run at 0, 60 and 120 ms. From then on the queue is standing: 7 runs at 180 ms, 6 at 240 ms, and the
    // waiters that have waited 100 ms by then are refused.
    assert_eq!(*order.lock().unwrap(), ["0", "1", "2", "7", "6"]);
    assert_eq!(statuses, [200, 200, 200, 503, 503, 503, 200, 200]);
    assert_eq!(stack.limiter().snapshot().waiting, [0; 4]);
}

/// Where a request takes longer than 100 ms, a bound of 100 ms on the wait would refuse requests for which a permit
/// comes free a moment later.
#[tokio::test(start_paused = true)]
async fn a_wait_shorter_than_a_usual_service_time_is_not_refused() {
    let stacked = limited(4, 2).layer(service(|_| async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        ok()
    }));
    let mut requests = Vec::new();
    for _ in 0..6 {
        let service = stacked.clone();
        requests.push(tokio::spawn(async move {
            let reply = service.oneshot(request(&[])).await.unwrap();
            let status = reply.status().as_u16();
            body(reply).await;
            status
        }));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
}
