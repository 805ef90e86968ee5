//! A second request for a slow read: when it is made, what it costs, and which answer counts.

use std::time::Duration;

use mainstay::breaker::BreakerState;
use mainstay::client::{ClientConfig, ClientStack};
use mainstay::hedge::HedgeConfig;
use mainstay::{Outcome, RequestContext};
use tokio::time::Instant;

use crate::recorder::Recorder;
use crate::support::{DepositMany as _, Do, HOST, Peer, With as _, call, config, get, post_with_key, stack};

/// A stack that has seen a hundred reads of 20 ms.
async fn warm(peer: &Peer) -> ClientStack<Peer> {
    peer.turn([Do::after_ms(20, Do::Reply(200))]);
    let stack = stack(ClientConfig { hedge: Some(HedgeConfig::default()), ..config() }, peer);
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
async fn a_slow_read_is_asked_again_and_the_better_answer_counts() {
    let recorder = Recorder::new();
    let peer = Peer::always(Do::Hang);
    let stack = warm(&peer).await;
    peer.turn([Do::after_ms(900, Do::Reply(200)), Do::after_ms(20, Do::Reply(204))]);
    let (answer, took) = timed(&stack).await;
    assert_eq!(answer, Ok(204));
    assert!((40..50).contains(&took), "the percentile and the second answer: {took} ms");
    assert_eq!(peer.inside(), 0, "the loser is given up");
    let seen = peer.seen();
    assert_eq!(seen[seen.len() - 1].header("x-attempt"), "2", "so that nobody further down retries it");
    let metrics = recorder.metrics();
    assert_eq!(metrics["mainstay_hedges_total{peer=inventory}"], [1.0]);
    assert_eq!(metrics["mainstay_hedge_wins_total{peer=inventory}"], [1.0]);
    assert_eq!(stack.breakers().get(HOST).unwrap().snapshot().failures, 0);
}

#[tokio::test(start_paused = true)]
async fn the_first_may_still_win() {
    let peer = Peer::always(Do::Hang);
    let stack = warm(&peer).await;
    peer.turn([Do::after_ms(60, Do::Reply(200)), Do::after_ms(500, Do::Reply(204))]);
    assert_eq!(timed(&stack).await, (Ok(200), 60));
    assert_eq!(peer.inside(), 0);
}

/// First completion wins, even if it is an error: a fast failure beat a good answer that was under way.
#[tokio::test(start_paused = true)]
async fn a_failure_does_not_beat_a_call_that_is_under_way() {
    let peer = Peer::always(Do::Hang);
    let stack = warm(&peer).await;
    peer.turn([Do::after_ms(100, Do::Reply(200)), Do::after_ms(5, Do::Reply(500))]);
    assert_eq!(timed(&stack).await, (Ok(200), 100), "the second failed first");
    peer.turn([Do::after_ms(40, Do::Reply(500)), Do::after_ms(80, Do::Reply(204))]);
    let (answer, _) = timed(&stack).await;
    assert_eq!(answer, Ok(204), "the first failed first");
    let before = peer.calls();
    peer.turn([Do::after_ms(60, Do::Reply(500)), Do::after_ms(60, Do::Reply(502)), Do::Reply(200)]);
    assert_eq!(timed(&stack).await.0, Ok(200), "both failed: that is one failed attempt, and is retried");
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
async fn nothing_is_hedged_before_enough_is_known() {
    let peer = Peer::always(Do::after_ms(500, Do::Reply(200)));
    let stack = stack(ClientConfig { hedge: Some(HedgeConfig::default()), ..config() }, &peer);
    stack.budget().deposit_many(1_000);
    for _ in 0..19 {
        call(&stack, get()).await.unwrap();
    }
    assert_eq!(peer.calls(), 19);
}

/// Every read slow at once is a peer in trouble, not a tail: the budget, shared with retries, keeps the extra load small.
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
    assert!((10..=12).contains(&extra), "a tenth of the hundred that went well, and one: {extra}");
    assert!(stack.budget().withdraw(Instant::now()).is_ok(), "and 20 more have been earned since");
    let metrics = recorder.metrics();
    assert!((metrics["mainstay_hedges_denied_total{peer=inventory}"][0] - 188.0).abs() < 2.0);
}

/// Losers left out of the percentile make it drift low until everything is hedged.
#[tokio::test(start_paused = true)]
async fn what_was_given_up_counts_with_the_time_it_had_taken() {
    let peer = Peer::always(Do::Hang);
    let stack = stack(ClientConfig { hedge: Some(HedgeConfig::default()), ..config() }, &peer);
    stack.budget().deposit_many(10_000);
    let mut hedged = Vec::new();
    for _ in 0..60 {
        let before = peer.calls();
        for step in 1..=40 {
            // Anything from 10 to 400 ms, and a second call that always wins.
            peer.turn([Do::after_ms(step * 10, Do::Reply(200)), Do::after_ms(1, Do::Reply(200))]);
            call(&stack, get()).await.unwrap();
        }
        stack.budget().deposit_many(10_000);
        hedged.push(peer.calls() - before - 40);
    }
    let last: usize = hedged[50..].iter().sum();
    assert!((1..=60).contains(&last), "a few of 400, however long it goes on: {hedged:?}");
}

/// A refusal of our own takes no time: as a latency it would have every read asked twice once the peer is back.
#[tokio::test(start_paused = true)]
async fn refusals_say_nothing_of_how_long_reads_take() {
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
    assert_eq!(peer.calls(), before + 1, "quicker than most reads, it is not asked again");
}

#[tokio::test(start_paused = true)]
async fn callers_who_leave_early_do_not_have_other_reads_asked_twice() {
    let peer = Peer::always(Do::Hang);
    let stack = warm(&peer).await;
    for _ in 0..3_000 {
        let _ = tokio::time::timeout(Duration::from_millis(5), call(&stack, get())).await;
    }
    let before = peer.calls();
    peer.turn([Do::after_ms(18, Do::Reply(200))]);
    call(&stack, get()).await.unwrap();
    assert_eq!(peer.calls(), before + 1, "quicker than most reads, it is not asked again");
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
