//! Each layer used alone, with no context layer outside: each decision is one event, one entry of the trail and one
//! metric.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full, StreamBody};
use mainstay::RequestContext;
use mainstay::context::Priority;
use mainstay::limit::{Aimd, Bounds, Fixed, Limiter, QueueConfig, Verdict};
use mainstay::server::body_limit::{BodyLimitLayer, LimitedBody};
use mainstay::server::context::ContextLayer;
use mainstay::server::deadline::DeadlineLayer;
use mainstay::server::drain::{Drain, DrainLayer};
use mainstay::server::panic::CatchPanicLayer;
use mainstay::server::rate_limit::RateLimitLayer;
use mainstay::server::shed::ShedLayer;
use mainstay::server::{DeadlinePolicy, RateLimitConfig};
use tower::{Layer, Service, ServiceExt as _};

use crate::support::{Recorder, request};

type Answer = Response<Full<Bytes>>;

async fn ok(_: Request<Full<Bytes>>) -> Result<Answer, Infallible> {
    Ok(Response::new(Full::from("ok")))
}

/// Sends one request with the correlation id `c-1`.
async fn ask<S, R>(service: &S, headers: &[(&'static str, &str)]) -> Response<R>
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>, Error = Infallible> + Clone,
{
    let mut request = request(headers);
    request.headers_mut().insert("x-correlation-id", "c-1".parse().unwrap());
    service.clone().oneshot(request).await.unwrap()
}

/// Asserts that `layer` has recorded `action` once for `c-1`, and counted it in `metric`.
#[track_caller]
fn assert_recorded(recorder: &Recorder, layer: &str, action: &str, metric: &str) {
    let events = recorder.at("mainstay::decision");
    let said: Vec<_> = events.iter().filter(|e| e["layer"] == layer && e["action"] == action).collect();
    assert_eq!(said.len(), 1, "{layer} {action}: {events:?}");
    assert_eq!(said[0]["correlation_id"], "c-1");
    assert!(!said[0]["why"].as_str().unwrap().is_empty());
    if !metric.is_empty() {
        let metrics = recorder.metrics();
        assert_eq!(metrics.get(metric), Some(&vec![1.0]), "{metric}: {metrics:?}");
    }
}

#[tokio::test]
async fn the_context_lowers_a_priority_and_cuts_a_deadline() {
    let recorder = Recorder::new();
    let service = ContextLayer::new(DeadlinePolicy::new(Duration::from_secs(2), Duration::from_secs(5)))
        .priority_ceiling(Some(std::sync::Arc::new(|_| Priority::Degraded)))
        .layer(tower::service_fn(|request: Request<Full<Bytes>>| async move {
            let context: &RequestContext = request.extensions().get().unwrap();
            let kept: Vec<_> =
                context.trail.snapshot().iter().map(|d| d.action.clone().into_owned()).collect();
            assert_eq!(
                (context.priority, &*kept),
                (Priority::Degraded, &["cut_deadline".into(), "lower_priority".into()][..])
            );
            assert!(context.deadline.remaining() <= Duration::from_secs(5));
            Ok::<_, Infallible>(Response::new(()))
        }));
    ask(&service, &[("x-priority", "critical"), ("x-deadline-ms", "9000")]).await;
    assert_recorded(&recorder, "context", "lower_priority", "mainstay_server_priority_lowered_total");
    assert_recorded(&recorder, "context", "cut_deadline", "");
    let why = |action| {
        recorder.at("mainstay::decision").iter().find(|e| e["action"] == action).unwrap()["why"].clone()
    };
    assert_eq!(why("lower_priority"), "claimed critical, at most degraded allowed");
    assert_eq!(why("cut_deadline"), "9000 ms requested, at most 5000 allowed");
}

#[tokio::test]
async fn an_allowed_priority_is_no_decision() {
    let recorder = Recorder::new();
    let service = ContextLayer::default()
        .priority_ceiling(Some(std::sync::Arc::new(|_| Priority::Default)))
        .layer(tower::service_fn(ok));
    ask(&service, &[("x-priority", "sheddable"), ("x-deadline-ms", "30000")]).await;
    assert!(recorder.at("mainstay::decision").is_empty());
}

#[tokio::test]
async fn drain_panic_and_quota_record_their_decisions() {
    let (recorder, drain) = (Recorder::new(), Drain::default());
    drain.start();
    let reply = ask(
        &DrainLayer::new(drain)
            .layer(tower::service_fn(|r| async { ok(r).await.map(|r| r.map(|_| Bytes::new())) })),
        &[],
    )
    .await;
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_recorded(&recorder, "drain", "reject", "mainstay_server_shed_total{reason=draining}");

    let bug = tower::service_fn(|_: Request<Full<Bytes>>| async {
        panic!("handler bug") as Result<Response<Bytes>, Infallible>
    });
    ask(&CatchPanicLayer.layer(bug), &[]).await;
    assert_recorded(&recorder, "catch_panic", "answer", "mainstay_server_panics_total");

    let config = RateLimitConfig::new(NonZeroU32::MIN, Duration::from_mins(1), |_| Some("all".into()));
    let quota = RateLimitLayer::new(Some(config)).layer(tower::service_fn(ok));
    ask(&quota, &[]).await;
    ask(&quota, &[]).await;
    assert_recorded(&recorder, "rate_limit", "reject", "mainstay_server_shed_total{reason=rate-limit}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_alone_waits_for_the_last_byte_of_each_request_in_flight() {
    let drain = Drain::default();
    let service = DrainLayer::new(drain.clone()).layer(tower::service_fn(|request| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ok(request).await
    }));
    let asked = tokio::spawn(service.clone().oneshot(request(&[])));
    let left = tokio::spawn(service.oneshot(request(&[])));
    tokio::task::yield_now().await;
    drain.start();
    assert_eq!(drain.in_flight(), 2);
    let mut drained = Box::pin(drain.drained());
    assert!((&mut drained).now_or_never().is_none());
    left.abort();
    let reply = asked.await.unwrap().unwrap();
    assert_eq!(drain.in_flight(), 1, "the reply's body is still unread");
    assert!((&mut drained).now_or_never().is_none());
    assert_eq!(reply.into_body().collect().await.unwrap().to_bytes(), "ok");
    drained.await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_refuses_and_cuts_off() {
    let recorder = Recorder::new();
    let hung = tower::service_fn(|_: Request<Full<Bytes>>| {
        std::future::pending::<Result<Response<Bytes>, Infallible>>()
    });
    let service = DeadlineLayer::default().layer(hung);
    ask(&service, &[("x-deadline-ms", "0")]).await;
    assert_recorded(&recorder, "deadline", "reject", "mainstay_server_shed_total{reason=deadline}");
    ask(&service, &[("x-deadline-ms", "100")]).await;
    assert_recorded(&recorder, "deadline", "cut_off", "mainstay_server_deadline_overrun_total");
}

#[tokio::test]
async fn shedding_refuses() {
    let recorder = Recorder::new();
    let limiter = Limiter::new(Fixed::new(1), QueueConfig::default().capacity(Some(0)));
    let service = ShedLayer::new(limiter).layer(tower::service_fn(ok));
    let held = ask(&service, &[]).await;
    ask(&service, &[]).await;
    assert_recorded(&recorder, "load_shed", "reject", "mainstay_server_shed_total{reason=queue-full}");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn the_wait_of_a_waiter_that_leaves_is_recorded() {
    let recorder = Recorder::new();
    let limiter = Limiter::new(Fixed::new(1), QueueConfig::default());
    let service = ShedLayer::new(limiter).layer(tower::service_fn(ok));
    let held = ask(&service, &[]).await;
    let mut waiter = Box::pin(service.clone().oneshot(request(&[])));
    assert!((&mut waiter).now_or_never().is_none());
    tokio::time::advance(Duration::from_millis(40)).await;
    drop(waiter);
    assert_eq!(recorder.metrics()["mainstay_server_queue_seconds"], [0.04]);
    drop(held);
}

/// Reads its request to the end, or to the point where it is cut off.
async fn read<B: Body + Unpin>(request: Request<LimitedBody<B>>) -> Result<Response<Bytes>, Infallible>
where
    B::Error: Into<tower::BoxError>,
{
    let read = request.into_body().collect().await;
    let status = if read.is_ok() { StatusCode::OK } else { StatusCode::PAYLOAD_TOO_LARGE };
    let mut reply = Response::new(Bytes::new());
    *reply.status_mut() = status;
    Ok(reply)
}

#[tokio::test]
async fn a_body_is_refused_by_its_announced_length_and_cut_off_by_its_actual_length() {
    let recorder = Recorder::new();
    let service = BodyLimitLayer::new(Some(4)).layer(tower::service_fn(read));
    let send = |announced: bool, pieces: &'static [&'static str]| {
        let all: usize = pieces.iter().map(|piece| piece.len()).sum();
        let frames = pieces.iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(*piece))));
        let mut request = Request::post("/").header("x-correlation-id", "c-1");
        if announced {
            request = request.header("content-length", all);
        }
        service.clone().oneshot(request.body(StreamBody::new(stream::iter(frames))).unwrap())
    };
    assert_eq!(send(false, &["12", "34"]).await.unwrap().status(), StatusCode::OK);
    assert_eq!(send(true, &["1234"]).await.unwrap().status(), StatusCode::OK);
    assert!(recorder.at("mainstay::decision").is_empty());
    assert_eq!(send(false, &["12", "345", "6"]).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_recorded(&recorder, "body_limit", "cut_off", "mainstay_server_body_cut_off_total");
    assert_eq!(send(true, &["12345"]).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_recorded(&recorder, "body_limit", "reject", "mainstay_server_shed_total{reason=body-limit}");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_limit_is_recorded() {
    let recorder = Recorder::new();
    let bounds = Bounds::default().min(1).start(10).max(100);
    let limiter = Limiter::new(Aimd::new(bounds), QueueConfig::default());
    for _ in 0..40 {
        let permit = limiter.try_acquire(Priority::Default).unwrap();
        tokio::time::advance(Duration::from_millis(50)).await;
        permit.observe(Verdict::Dropped);
    }
    let limit = limiter.snapshot().limit;
    assert!(limit < 10);
    let events = recorder.at("mainstay::decision");
    assert!(
        events.iter().all(|e| (&e["layer"], &e["action"]) == (&"concurrency_limit".into(), &"shrink".into()))
    );
    let last = events.last().unwrap()["why"].as_str().unwrap();
    assert!(
        last.starts_with("aimd: ")
            && last.contains(&format!(" to {limit}, with 1 in flight, the last dropped after 50ms")),
        "{last}"
    );
    assert_eq!(
        recorder.metrics()["mainstay_server_concurrency_limit"],
        [f64::from(u32::try_from(limit).unwrap())]
    );
}
