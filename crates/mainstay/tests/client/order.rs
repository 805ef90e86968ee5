//! The order of the client stack. Each test fails if its two layers are swapped.

use std::time::Duration;

use futures_util::FutureExt as _;
use mainstay::breaker::BreakerState;

use mainstay::retry::RetryConfig;
use mainstay::{CallError, Outcome, RequestContext};
use tokio::time::Instant;

use crate::recorder::Recorder;
use crate::support::{DepositMany as _, Do, HOST, Peer, With as _, begin, call, config, get, stack};

#[tokio::test(start_paused = true)]
async fn the_breaker_is_outside_the_attempt_timeout_and_sees_it() {
    let peer = Peer::always(Do::Hang);
    let stack = stack(config(), &peer);
    stack.budget().deposit_many(1_000);
    for _ in 0..3 {
        call(&stack, get()).await.unwrap_err();
    }
    let breaker = stack.breakers().get(HOST).unwrap();
    assert_eq!(breaker.state(), BreakerState::Open, "five timed-out attempts");
}

#[tokio::test(start_paused = true)]
async fn the_breaker_is_inside_the_retry_and_judges_each_attempt() {
    let peer = Peer::always(Do::Refuse);
    let stack = stack(config(), &peer);
    stack.budget().deposit_many(1_000);
    call(&stack, get()).await.unwrap_err();
    assert_eq!(stack.breakers().get(HOST).unwrap().snapshot().failures, 3);
    let error = call(&stack, get()).await.unwrap_err();
    assert!(
        matches!(error, CallError::BreakerRejected { .. }),
        "the breaker must open between two attempts of one call: {error:?}"
    );
    assert_eq!(peer.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_bulkhead_is_outside_the_breaker_and_spends_no_probe() {
    let peer = Peer::always(Do::Refuse);
    let retry = RetryConfig::default().max_attempts(1);
    let stack = stack(config().max_in_flight(1).retry(retry), &peer);
    for _ in 0..5 {
        call(&stack, get()).await.unwrap_err();
    }
    let breaker = stack.breakers().get(HOST).unwrap();
    tokio::time::sleep(Duration::from_millis(breaker.snapshot().open_for_ms)).await;
    peer.turn([Do::after_ms(10, Do::Reply(200))]);
    let mut probe = Box::pin(call(&stack, get()));
    begin(&mut probe).await;
    let error = call(&stack, get()).await.unwrap_err();
    assert!(matches!(error, CallError::BulkheadFull { .. }), "{error:?}");
    probe.await.unwrap();
    assert_eq!(
        breaker.state(),
        BreakerState::HalfOpen,
        "one of three probes, and none was lost to the full bulkhead"
    );
}

#[tokio::test(start_paused = true)]
async fn the_bulkhead_is_inside_the_retry_and_its_refusal_is_final() {
    let recorder = Recorder::new();
    let peer = Peer::always(Do::Hang);
    let stack = stack(config().max_in_flight(1), &peer);
    let mut held = Box::pin(call(&stack, get()));
    begin(&mut held).await;
    let began = Instant::now();
    let error = call(&stack, get()).await.unwrap_err();
    assert_eq!((error.outcome(), began.elapsed()), (Outcome::RejectedUnsent, Duration::ZERO));
    let metrics = recorder.metrics();
    assert_eq!(metrics["mainstay_client_rejected_total{peer=inventory,reason=bulkhead-full}"], [1.0]);
    assert_eq!(metrics["mainstay_retries_total{peer=inventory}"], [0.0]);
    assert_eq!(
        metrics["mainstay_client_attempts_total{peer=inventory,outcome=rejected-unsent}"],
        [0.0],
        "a call that was not sent is no attempt"
    );
}

#[tokio::test(start_paused = true)]
async fn the_throttle_is_inside_the_retry_and_outside_the_bulkhead() {
    let recorder = Recorder::new();
    let peer = Peer::always(Do::ComeBackAfter(60));
    let stack = stack(config().max_in_flight(1), &peer);
    let mut held_back = 0;
    for _ in 0..200 {
        held_back += u32::from(matches!(call(&stack, get()).await, Err(CallError::HeldBack { .. })));
    }
    assert!(held_back > 100, "{held_back}");
    let metrics = recorder.metrics();
    let rejected =
        |reason| metrics[&format!("mainstay_client_rejected_total{{peer=inventory,reason={reason}}}")][0];
    assert!(
        (rejected("held-back") - f64::from(held_back)).abs() < 0.1,
        "each counted once: none was retried"
    );
    peer.turn([Do::Hang]);
    let mut busy = Box::pin(call(&stack, get()));
    while std::pin::Pin::new(&mut busy).now_or_never().is_some() {
        busy = Box::pin(call(&stack, get()));
    }
    assert_eq!(stack.in_flight(), 1);
    let mut held_back = 0;
    for _ in 0..50 {
        let error = call(&stack, get()).await.unwrap_err();
        held_back += u32::from(matches!(error, CallError::HeldBack { .. }));
    }
    assert!(held_back > 30, "the throttle must decide before the full bulkhead: {held_back}");
}

#[tokio::test(start_paused = true)]
async fn the_total_deadline_is_outside_the_retry_and_bounds_its_waits() {
    let peer = Peer::always(Do::ComeBackAfter(1));
    let stack = stack(config().total_timeout(Duration::from_millis(1_500)), &peer);
    stack.budget().deposit_many(1_000);
    let began = Instant::now();
    let reply = call(&stack, get()).await.unwrap();
    assert_eq!(reply.status(), 503);
    assert_eq!(peer.calls(), 2, "a second wait of a second does not fit into the time left");
    assert!(began.elapsed() < Duration::from_millis(1_100));
}

#[tokio::test(start_paused = true)]
async fn headers_are_stamped_inside_the_timeout_and_anew_for_each_attempt() {
    let peer = Peer::script([Do::after_ms(300, Do::Reply(502)), Do::Reply(200)]);
    let stack = stack(config(), &peer);
    let context = RequestContext::background(Duration::from_secs(1));
    call(&stack, get().with(&context)).await.unwrap();
    let seen = peer.seen();
    assert_eq!(seen[0].deadline_ms(), 950);
    assert!(seen[1].deadline_ms() <= 650);
    assert_eq!(seen[1].header("x-correlation-id"), context.correlation_id.as_str());
    assert_eq!(seen[1].header("x-priority"), "default");
}

#[cfg(feature = "faults")]
#[tokio::test(start_paused = true)]
async fn injected_faults_pass_through_every_layer() {
    use mainstay::fault::{Fault, FaultSpec, Faults};

    let faults = Faults::default();
    let peer = Peer::always(Do::Reply(200));
    let stack = stack(config().faults(Some((faults.clone(), "inventory-client".to_owned()))), &peer);
    stack.budget().deposit_many(1_000);
    faults.put("inventory-client", FaultSpec::always(Fault::Hang)).unwrap();
    let error = call(&stack, get()).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "timed out, retried, and timed out again");
    for _ in 0..2 {
        call(&stack, get()).await.unwrap_err();
    }
    assert_eq!(peer.calls(), 0);
    assert_eq!(stack.breakers().get(HOST).unwrap().state(), BreakerState::Open);
}
