//! A second request for a slow read: when it is sent, its cost, and which answer counts.

use std::time::Duration;

use mainstay::breaker::BreakerState;
use mainstay::client::ClientStack;
use mainstay::hedge::HedgeConfig;
use mainstay::{Outcome, RequestContext};
use tokio::time::Instant;

use crate::recorder::Recorder;
use crate::support::{DepositMany as _, Do, HOST, Peer, With as _, call, config, get, post_with_key, stack};

/// A stack that has observed a hundred reads of 20 ms.
async fn warm(peer: &Peer) -> ClientStack<Peer> {
    peer.turn([Do::after_ms(20, Do::Reply(200))]);
    let stack = stack(config().hedge(Some(HedgeConfig::default())), peer);
    for _ in 0..100 {
        call(&stack, get()).await.unwrap();
    }
    stack
}

async fn timed(stack: &ClientStack<Peer>) -> (Result<u16, Outcome>, u128) {
    let began = Instant::now();
    let result = call(stack, get()).await;
    let took = began.elapsed().as_millis();
    (result.map(|reply| reply.status().as_u16()).map_err(|error| error.outcome()), took)
}

#[tokio::test(start_paused = true)]
async fn a_slow_read_is_sent_again_and_the_better_answer_counts() {
    let recorder = Recorder::new();
    let peer = Peer::always(Do::Hang);
    let stack = warm(&peer).await;
    peer.turn([Do::after_ms(900, Do::Reply(200)), Do::after_ms(20, Do::Reply(204))]);
    let (answer, took) = timed(&stack).await;
    assert_eq!(answer, Ok(204));
    assert!((40..50).contains(&took), "the percentile's delay and the second answer: {took} ms");
    assert_eq!(peer.inside(), 0, "the slower call is dropped");
    let seen = peer.seen();
    assert_eq!(seen[seen.len() - 1].header("x-attempt"), "2", "so that no later hop retries it");
    let metrics = recorder.metrics();
    assert_eq!(metrics["mainstay_hedges_total{peer=inventory}"], [1.0]);
    assert_eq!(metrics["mainstay_hedge_wins_total{peer=inventory}"], [1.0]);
    assert_eq!(stack.breakers().get(HOST).unwrap().snapshot().failures, 0);
}

#[tokio::test(start_paused = true)]
async fn the_first_request_may_still_win() {
    let peer = Peer::always(Do::Hang);
    let stack = warm(&peer).await;
    peer.turn([Do::after_ms(60, Do::Reply(200)), Do::after_ms(500, Do::Reply(204))]);
    assert_eq!(timed(&stack).await, (Ok(200), 60));
    assert_eq!(peer.inside(), 0);
}

/// In other middleware the first completion wins even if it is an error: a fast failure won over a good answer that
/// was in flight.
#[tokio::test(start_paused = true)]
async fn a_failure_does_not_win_over_a_call_in_flight() {
    let peer = Peer::always(Do::Hang);
    let stack = warm(&peer).await;
    peer.turn([Do::after_ms(100, Do::Reply(200)), Do::after_ms(5, Do::Reply(500))]);
    assert_eq!(timed(&stack).await, (Ok(200), 100), "the second failed first");
    peer.turn([Do::after_ms(40, Do::Reply(500)), Do::after_ms(80, Do::Reply(204))]);
    let (answer, _) = timed(&stack).await;
    assert_eq!(answer, Ok(204), "the first failed first");
    let before = peer.calls();
    peer.turn([Do::after_ms(60, Do::Reply(500)), Do::after_ms(60, Do::Reply(502)), Do::Reply(200)]);
    assert_eq!(timed(&stack).await.0, Ok(200), "both failed: they are one failed attempt, which is retried");
    assert_eq!(peer.calls() - before, 3);
}

#[tokio::test(start_paused = true)]
async fn only_reads_whose_caller_does_not_retry_are_hedged() {
    let peer = Peer::always(Do::Hang);
    let stack = warm(&peer).await;
    let before = peer.calls();
    peer.turn([Do::after_ms(500, Do::Reply(200))]);
    call(&stack, post_with_key()).await.unwrap();
    let mut context = RequestContext::background(Duration::from_secs(5));
    context.attempt = 2;
    call(&stack, get().with(&context)).await.unwrap();
    assert_eq!(peer.calls() - before, 2);
}

#[tokio::test(start_paused = true)]
async fn no_read_is_hedged_before_there_are_enough_samples() {
    let peer = Peer::always(Do::after_ms(500, Do::Reply(200)));
    let stack = stack(config().hedge(Some(HedgeConfig::default())), &peer);
    stack.budget().deposit_many(1_000);
    for _ in 0..19 {
        call(&stack, get()).await.unwrap();
    }
    assert_eq!(peer.calls(), 19);
}

/// When every read is slow, the peer is in trouble and there is no tail. The budget, shared with retries, keeps the
/// extra load small.
#[tokio::test(start_paused = true)]
async fn law_04_hedges_draw_from_the_shared_budget() {
    let recorder = Recorder::new();
    let peer = Peer::always(Do::Hang);
    let stack = warm(&peer).await;
    let before = peer.calls();
    peer.turn([Do::after_ms(200, Do::Reply(200))]);
    let reads = futures_util::future::join_all((0..200).map(|_| call(&stack, get())));
    assert!(reads.await.into_iter().all(|reply| reply.is_ok()));
    let extra = peer.calls() - before - 200;
    assert!((10..=12).contains(&extra), "a tenth of the hundred successes, and one: {extra}");
    assert!(stack.budget().withdraw(Instant::now()).is_ok(), "20 more have been deposited since");
    let metrics = recorder.metrics();
    assert!((metrics["mainstay_hedges_denied_total{peer=inventory}"][0] - 188.0).abs() < 2.0);
}

/// If the slower calls are left out of the percentile, it falls until every read is hedged.
#[tokio::test(start_paused = true)]
async fn a_dropped_call_counts_with_its_time_so_far() {
    let peer = Peer::always(Do::Hang);
    let stack = stack(config().hedge(Some(HedgeConfig::default())), &peer);
    stack.budget().deposit_many(10_000);
    let mut hedged = Vec::new();
    for _ in 0..60 {
        let before = peer.calls();
        for step in 1..=40 {
            // The first call takes 10 to 400 ms, and a second call always wins.
            peer.turn([Do::after_ms(step * 10, Do::Reply(200)), Do::after_ms(1, Do::Reply(200))]);
            call(&stack, get()).await.unwrap();
        }
        stack.budget().deposit_many(10_000);
        hedged.push(peer.calls() - before - 40);
    }
    let last: usize = hedged[50..].iter().sum();
    assert!((1..=60).contains(&last), "few of 400 at any time: {hedged:?}");
}

/// A refusal of our own layers takes no time. As a latency it would cause a hedge of every read once the peer has
/// recovered.
#[tokio::test(start_paused = true)]
async fn refusals_do_not_count_as_latencies() {
    let peer = Peer::always(Do::Hang);
    let stack = warm(&peer).await;
    stack.breakers().get(HOST).unwrap().force_open();
    for _ in 0..3_000 {
        call(&stack, get()).await.unwrap_err();
    }
    stack.breakers().get(HOST).unwrap().reset();
    let before = peer.calls();
    peer.turn([Do::after_ms(18, Do::Reply(200))]);
    call(&stack, get()).await.unwrap();
    assert_eq!(peer.calls(), before + 1, "a read faster than most is not hedged");
}

#[tokio::test(start_paused = true)]
async fn callers_that_leave_early_do_not_cause_hedges_of_other_reads() {
    let peer = Peer::always(Do::Hang);
    let stack = warm(&peer).await;
    for _ in 0..3_000 {
        let _ = tokio::time::timeout(Duration::from_millis(5), call(&stack, get())).await;
    }
    let before = peer.calls();
    peer.turn([Do::after_ms(18, Do::Reply(200))]);
    call(&stack, get()).await.unwrap();
    assert_eq!(peer.calls(), before + 1, "a read faster than most is not hedged");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_half_open_is_not_probed_twice_for_one_read() {
    let recorder = Recorder::new();
    let peer = Peer::always(Do::Hang);
    let stack = warm(&peer).await;
    stack.budget().deposit_many(1_000);
    let breaker = stack.breakers().get(HOST).unwrap();
    peer.turn([Do::Refuse]);
    while breaker.state() == BreakerState::Closed {
        drop(call(&stack, get()).await);
    }
    tokio::time::sleep(Duration::from_millis(breaker.snapshot().open_for_ms)).await;
    recorder.metrics();
    peer.turn([Do::after_ms(300, Do::Reply(200))]);
    for _ in 0..3 {
        call(&stack, get()).await.unwrap();
    }
    assert_eq!(breaker.state(), BreakerState::Ramping, "three slow probes, none of them dropped for another");
    let metrics = recorder.metrics();
    assert_eq!(metrics["mainstay_client_rejected_total{peer=inventory,reason=breaker-rejected}"], [3.0]);
    assert_eq!(metrics["mainstay_hedge_wins_total{peer=inventory}"], [0.0]);
}
