//! Identical reads share one call, and other calls do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::header;
use mainstay::client::ClientRequest;
use mainstay::coalesce::CoalesceLayer;
use mainstay::context::Priority;
use mainstay::{CallError, RepeatedWork, RequestContext};
use tokio::time::Instant;
use tower::{Layer as _, ServiceExt as _};

use crate::recorder::Recorder;
use crate::support::{Do, Peer, With as _, begin, get, get_from, post_with_key};

fn slow() -> Peer {
    Peer::always(Do::after_ms(100, Do::Reply(200)))
}

#[tokio::test(start_paused = true)]
async fn a_thousand_identical_reads_are_one_call() {
    let (peer, layer) = (slow(), CoalesceLayer::new("inventory"));
    let client = layer.layer(peer.clone());
    let replies = join_all((0..1_000).map(|_| client.clone().oneshot(get()))).await;
    assert!(replies.into_iter().all(|reply| reply.unwrap().body() == "body"));
    assert_eq!((peer.calls(), layer.under_way()), (1, 0));
    client.oneshot(get()).await.unwrap();
    assert_eq!(peer.calls(), 2, "a call that has ended is not shared: this is no cache");
}

#[tokio::test(start_paused = true)]
async fn different_reads_and_all_writes_are_not_shared() {
    let peer = slow();
    let client = CoalesceLayer::new("inventory").layer(peer.clone());
    let mut other = get();
    other.headers_mut().insert(header::AUTHORIZATION, "Bearer other".parse().unwrap());
    let requests = [get(), get_from("10.0.0.2:80"), other, post_with_key(), post_with_key()];
    join_all(requests.map(|request| client.clone().oneshot(request))).await;
    assert_eq!(peer.calls(), 5, "another principal's answer must not be shared");
}

#[tokio::test(start_paused = true)]
async fn reads_with_a_body_or_with_other_headers_of_the_caller_are_not_shared() {
    let peer = slow();
    let client = CoalesceLayer::new("inventory").layer(peer.clone());
    let of = |name: &'static str, value: &'static str| {
        let mut request = get();
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let (plain, none) = (get(), of("content-length", "0"));
    let different = [
        plain,
        none,
        of("range", "bytes=0-99"),
        of("range", "bytes=100-199"),
        of("if-none-match", "\"a\""),
        of("cookie", "session=a"),
        of("cookie", "session=b"),
        of("x-api-key", "a"),
        of("x-api-key", "b"),
        of("content-length", "2"),
        of("content-length", "2"),
        of("transfer-encoding", "chunked"),
    ];
    let count = different.len();
    join_all(different.map(|request| client.clone().oneshot(request))).await;
    assert_eq!(peer.calls(), count);
    let ours = ["x-correlation-id", "traceparent", "x-deadline-ms", "x-attempt", "x-priority", "tracestate"];
    join_all(ours.map(|name| client.clone().oneshot(of(name, "1")))).await;
    assert_eq!(peer.calls(), count + 1, "the headers of this crate do not distinguish reads");
}

#[tokio::test(start_paused = true)]
async fn no_caller_waits_for_longer_than_its_own_deadline() {
    let (recorder, peer) = (Recorder::new(), Peer::always(Do::after_ms(1_500, Do::Reply(200))));
    let client = CoalesceLayer::new("inventory").layer(peer.clone());
    let patient = tokio::spawn(client.clone().oneshot(get()));
    tokio::task::yield_now().await;
    let began = Instant::now();
    let hurried = client.oneshot(get().within_ms(100)).await.unwrap_err();
    assert!(matches!(hurried, CallError::DeadlineExceeded { .. }), "{hurried:?}");
    assert_eq!(began.elapsed().as_millis(), 100);
    assert_eq!(recorder.metrics()["mainstay_client_timeouts_total{peer=inventory,limit=joined}"], [1.0]);
    assert_eq!(recorder.at("mainstay::decision").last().unwrap()["action"], "cut_off");
    assert_eq!(patient.await.unwrap().unwrap().status(), 200);
    assert_eq!(peer.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_panics_fails_the_call_for_every_waiter() {
    let panics = tower::service_fn(|_: ClientRequest| async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        panic!("transport bug");
        #[allow(unreachable_code)]
        Err::<http::Response<bytes::Bytes>, _>(CallError::InvalidRequest { reason: "" })
    });
    let layer = CoalesceLayer::new("inventory");
    let client = layer.layer(panics);
    for result in join_all((0..3).map(|_| client.clone().oneshot(get()))).await {
        assert!(matches!(result, Err(CallError::Transport(_))), "{result:?}");
    }
    assert_eq!(layer.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_does_not_end_the_shared_call() {
    let (peer, layer) = (slow(), CoalesceLayer::new("inventory"));
    let client = layer.layer(peer.clone());
    let mut first = Box::pin(client.clone().oneshot(get()));
    begin(&mut first).await;
    let mut second = Box::pin(client.clone().oneshot(get()));
    begin(&mut second).await;
    drop(first);
    assert_eq!(second.await.unwrap().status(), 200, "the first caller has left");
    assert_eq!(peer.calls(), 1);

    let mut only = Box::pin(client.oneshot(get()));
    begin(&mut only).await;
    assert_eq!((peer.inside(), layer.under_way()), (1, 1));
    drop(only);
    assert_eq!((peer.inside(), layer.under_way()), (0, 0), "no caller waits, so no call runs");
}

#[tokio::test(start_paused = true)]
async fn calls_with_the_same_timeout_are_shared_though_each_begins_later() {
    let (peer, layer) = (slow(), CoalesceLayer::new("inventory"));
    let client = layer.layer(peer.clone());
    let replies = join_all((0..50).map(|n| {
        let client = client.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(n)).await;
            let context = RequestContext::background(Duration::from_secs(1));
            client.oneshot(get().with(&context)).await
        }
    }));
    assert!(replies.await.iter().all(Result::is_ok));
    assert_eq!(peer.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_joiner_gets_less_than_half_of_its_own_time() {
    let (peer, layer) = (slow(), CoalesceLayer::new("inventory"));
    let client = layer.layer(peer.clone());
    let ask = |ms| {
        let context = RequestContext::background(Duration::from_millis(ms));
        Box::pin(client.clone().oneshot(get().with(&context)))
    };
    let (mut short, mut long, mut shorter) = (ask(400), ask(1_000), ask(200));
    for call in [&mut short, &mut long, &mut shorter] {
        begin(call).await;
    }
    assert_eq!(peer.calls(), 2, "the longer wait has its own call, which the shortest joins");
    join_all([short, long, shorter]).await.into_iter().for_each(|reply| assert!(reply.is_ok()));
    assert_eq!(layer.under_way(), 0);
}

/// A waiter that woke itself: 1.08 million polls in 490 ms.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_shared_call_does_not_poll_in_a_loop() {
    let client = CoalesceLayer::new("inventory").layer(slow());
    let polls = Arc::new(AtomicUsize::new(0));
    let waiters = (0..10).map(|_| {
        let (polls, mut call) = (Arc::clone(&polls), Box::pin(client.clone().oneshot(get())));
        tokio::spawn(std::future::poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::SeqCst);
            std::future::Future::poll(call.as_mut(), cx)
        }))
    });
    join_all(waiters).await.into_iter().for_each(|reply| assert!(reply.unwrap().is_ok()));
    assert!(polls.load(Ordering::SeqCst) <= 40, "{} polls by ten waiters", polls.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_read_joins_neither_a_call_of_lower_priority_nor_a_repeat() {
    let peer = slow();
    let client = CoalesceLayer::new("inventory").layer(peer.clone());
    let of = |priority| {
        let context = RequestContext { priority, ..RequestContext::background(Duration::from_secs(1)) };
        get().with(&context)
    };
    let mut repeat = of(Priority::Critical);
    repeat.extensions_mut().insert(RepeatedWork);
    let requests = [of(Priority::Sheddable), repeat, of(Priority::Critical), of(Priority::Default)];
    let replies = join_all(requests.map(|request| client.clone().oneshot(request))).await;
    assert!(replies.iter().all(Result::is_ok));
    assert_eq!(peer.calls(), 3, "the last one joins the critical one");
}
