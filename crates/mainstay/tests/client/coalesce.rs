//! Identical reads share one call, and nothing else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::header;
use mainstay::RequestContext;
use mainstay::coalesce::CoalesceLayer;
use tower::{Layer as _, ServiceExt as _};

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
    assert_eq!(peer.calls(), 2, "what has ended is not shared: this is no cache");
}

#[tokio::test(start_paused = true)]
async fn different_reads_and_all_writes_go_their_own_way() {
    let peer = slow();
    let client = CoalesceLayer::new("inventory").layer(peer.clone());
    let mut other = get();
    other.headers_mut().insert(header::AUTHORIZATION, "Bearer other".parse().unwrap());
    let requests = [get(), get_from("10.0.0.2:80"), other, post_with_key(), post_with_key()];
    join_all(requests.map(|request| client.clone().oneshot(request))).await;
    assert_eq!(peer.calls(), 5, "another principal's answer is not ours");
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_leaves_alone() {
    let (peer, layer) = (slow(), CoalesceLayer::new("inventory"));
    let client = layer.layer(peer.clone());
    let mut first = Box::pin(client.clone().oneshot(get()));
    begin(&mut first).await;
    let mut second = Box::pin(client.clone().oneshot(get()));
    begin(&mut second).await;
    drop(first);
    assert_eq!(second.await.unwrap().status(), 200, "the one who began it has left");
    assert_eq!(peer.calls(), 1);

    let mut only = Box::pin(client.oneshot(get()));
    begin(&mut only).await;
    assert_eq!((peer.inside(), layer.under_way()), (1, 1));
    drop(only);
    assert_eq!((peer.inside(), layer.under_way()), (0, 0), "nobody waits, so nothing runs");
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
async fn nobody_inherits_less_than_half_of_the_time_it_has() {
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
    assert_eq!(peer.calls(), 2, "the longer wait has a call of its own, which the shortest joins");
    join_all([short, long, shorter]).await.into_iter().for_each(|reply| assert!(reply.is_ok()));
    assert_eq!(layer.under_way(), 0);
}

/// 1.08 million polls in 490 ms, from a waiter that woke itself.
#[tokio::test(start_paused = true)]
async fn waiting_for_somebody_elses_call_is_not_polling() {
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
