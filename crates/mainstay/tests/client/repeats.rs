//! Repeats of work that has failed before do not make the endpoint unavailable for other calls.

use std::time::Duration;

use mainstay::breaker::{BreakerSnapshot, BreakerState};
use mainstay::client::{ClientRequest, ClientStack};
use mainstay::retry::RetryConfig;
use mainstay::{Registry, RepeatedWork};
use tokio::time::sleep;

use crate::recorder::Recorder;
use crate::support::{DepositMany as _, Do, HOST, Peer, With as _, call, config, get, post_with_key, stack};

fn repeat(mut request: ClientRequest) -> ClientRequest {
    request.extensions_mut().insert(RepeatedWork);
    request
}

fn breaker(stack: &ClientStack<Peer>) -> BreakerSnapshot {
    stack.breakers().get(HOST).unwrap().snapshot()
}

#[tokio::test(start_paused = true)]
async fn law_09_repeats_that_always_fail_do_not_open_the_breaker_for_first_tries() {
    let peer = Peer::always(Do::Reply(200));
    let stack = stack(config(), &peer);
    for _ in 0..30 {
        // One second: twenty repeats that cannot succeed, and two good first tries.
        peer.turn([Do::Reply(500)]);
        for _ in 0..20 {
            assert_eq!(call(&stack, repeat(post_with_key())).await.unwrap().status(), 500);
        }
        peer.turn([Do::Reply(200)]);
        for _ in 0..2 {
            assert_eq!(call(&stack, post_with_key()).await.unwrap().status(), 200);
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(breaker(&stack).trips, 0);
}

#[tokio::test(start_paused = true)]
async fn law_09_a_repeat_changes_no_window_and_a_first_try_does() {
    let peer = Peer::script([Do::Reply(200), Do::Reply(500), Do::Lose, Do::after_ms(600, Do::Reply(200))]);
    let retry = RetryConfig::default().max_attempts(1);
    let stack = stack(config().retry(retry), &peer);
    for _ in 0..4 {
        let _ = call(&stack, repeat(get().within_ms(5_000))).await;
    }
    let view = breaker(&stack);
    assert_eq!((view.calls, view.failures, view.slow_calls, view.consecutive_failures), (0, 0, 0, 0));
    peer.turn([Do::Reply(404), Do::Lose, Do::after_ms(600, Do::Reply(200))]);
    for _ in 0..3 {
        let _ = call(&stack, get().within_ms(5_000)).await;
    }
    let view = breaker(&stack);
    assert_eq!((view.calls, view.failures, view.slow_calls), (3, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_does_not_change_the_balance_of_the_throttle() {
    let peer = Peer::always(Do::ComeBackAfter(1));
    let stack = stack(config(), &peer);
    let registry = Registry::default();
    registry.client(&stack);
    for _ in 0..100 {
        call(&stack, repeat(post_with_key())).await.unwrap();
    }
    let state = registry.snapshot().throttles[0].state;
    assert_eq!((state.held_back_percent, state.answered, state.throttled), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_rejects_repeats_too() {
    let peer = Peer::always(Do::Refuse);
    let stack = stack(config(), &peer);
    while breaker_state(&stack) != Some(BreakerState::Open) {
        call(&stack, get()).await.unwrap_err();
    }
    let before = peer.calls();
    let error = call(&stack, repeat(get())).await.unwrap_err();
    assert_eq!((error.reason(), peer.calls()), ("breaker-rejected", before));
}

fn breaker_state(stack: &ClientStack<Peer>) -> Option<BreakerState> {
    Some(stack.breakers().get(HOST)?.state())
}

async fn half_open(peer: &Peer) -> ClientStack<Peer> {
    let stack = stack(config(), peer);
    peer.turn([Do::Refuse]);
    while breaker_state(&stack) != Some(BreakerState::Open) {
        call(&stack, get()).await.unwrap_err();
    }
    while breaker_state(&stack) != Some(BreakerState::HalfOpen) {
        sleep(Duration::from_millis(10)).await;
    }
    stack
}

#[tokio::test(start_paused = true)]
async fn law_09_a_repeat_that_fails_as_a_probe_does_not_open_the_breaker() {
    let peer = Peer::always(Do::Refuse);
    let stack = half_open(&peer).await;
    let trips = breaker(&stack).trips;
    for act in [Do::Reply(500), Do::Refuse, Do::Lose, Do::ComeBackAfter(1), Do::after_ms(600, Do::Reply(200))]
    {
        peer.turn([act]);
        let _ = call(&stack, repeat(get())).await;
        assert_eq!((breaker(&stack).state, breaker(&stack).trips), (BreakerState::HalfOpen, trips));
    }
    peer.turn([Do::Reply(500)]);
    let _ = call(&stack, get()).await;
    assert_eq!(breaker(&stack).trips, trips + 1, "a failed first try must open the breaker");
}

#[tokio::test(start_paused = true)]
async fn law_09_a_client_that_sends_only_repeats_closes_its_breaker_again() {
    let peer = Peer::always(Do::Refuse);
    let stack = half_open(&peer).await;
    peer.turn([Do::Reply(200)]);
    for _ in 0..3 {
        call(&stack, repeat(post_with_key())).await.unwrap();
    }
    assert_eq!(breaker(&stack).state, BreakerState::Ramping);
}

#[tokio::test(start_paused = true)]
async fn law_04_a_repeat_is_sent_once_and_leaves_the_retry_budget_to_first_tries() {
    let peer = Peer::always(Do::Lose);
    let stack = stack(config(), &peer);
    stack.budget().deposit_many(100);
    call(&stack, repeat(post_with_key())).await.unwrap_err();
    assert_eq!(peer.calls(), 1);
    call(&stack, post_with_key()).await.unwrap_err();
    assert_eq!(peer.calls(), 4, "a first try is retried");
}

#[tokio::test(start_paused = true)]
async fn metrics_distinguish_repeats_from_first_tries() {
    let recorder = Recorder::new();
    let stack = stack(config(), &Peer::always(Do::Reply(500)));
    call(&stack, post_with_key().within_ms(1_000)).await.unwrap();
    call(&stack, repeat(post_with_key().within_ms(1_000))).await.unwrap();
    let metrics = recorder.metrics();
    assert_eq!(metrics["mainstay_client_requests_total{peer=inventory,outcome=unknown}"], [2.0]);
    assert_eq!(metrics["mainstay_client_repeats_total{peer=inventory,outcome=unknown}"], [1.0]);
}
