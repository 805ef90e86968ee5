//! Faults of other client middleware, each reproduced against this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use mainstay::attempt_timeout::AttemptTimeoutLayer;
use mainstay::breaker::{BreakerConfig, BreakerLayer, BreakerState, Breakers};
use mainstay::budget::{BudgetConfig, RetryBudget};
use mainstay::bulkhead::BulkheadLayer;
use mainstay::client::ClientConfig;
use mainstay::random::Random;
use mainstay::retry::RetryConfig;
use mainstay::{CallError, Outcome};
use tokio::time::Instant;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use crate::recorder::Recorder;
use crate::support::{DepositMany as _, Do, HOST, Peer, begin, call, config, get, post, stack};

fn one_attempt() -> ClientConfig {
    config().retry(RetryConfig::default().max_attempts(1))
}

/// After 10,000 successes, a cumulative "window" needed 10,000 failures to open.
#[tokio::test(start_paused = true)]
async fn ten_thousand_successes_do_not_hide_a_dead_peer() {
    let peer = Peer::always(Do::Reply(200));
    let stack = stack(one_attempt(), &peer);
    for _ in 0..10_000 {
        call(&stack, get()).await.unwrap();
    }
    let breaker = stack.breakers().get(HOST).unwrap();
    assert_eq!(breaker.snapshot().calls, 10_000);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(breaker.snapshot().calls, 0, "the calls have left the window ten seconds later");
    peer.turn([Do::Refuse]);
    let before = peer.calls();
    while breaker.state() == BreakerState::Closed {
        call(&stack, get()).await.unwrap_err();
    }
    assert_eq!(peer.calls() - before, 5);
}

/// The window slides under traffic too: it holds the last ten seconds, and does not restart at a change of state.
#[tokio::test(start_paused = true)]
async fn the_window_slides_under_steady_traffic() {
    let peer = Peer::always(Do::Reply(200));
    let stack = stack(one_attempt(), &peer);
    let second = async || {
        for _ in 0..100 {
            call(&stack, get()).await.ok();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    for _ in 0..60 {
        second().await;
    }
    // Two of three calls fail, so that no run of failures opens the breaker.
    peer.turn([Do::Refuse, Do::Refuse, Do::Reply(200)].into_iter().cycle().take(5_000));
    let mut seconds = 0;
    while stack.breakers().get(HOST).unwrap().snapshot().trips == 0 {
        second().await;
        seconds += 1;
    }
    assert!(
        (7..=8).contains(&seconds),
        "two thirds of what are half of ten seconds, not of a minute: {seconds}"
    );
}

/// Ten seconds of successes are no reason to call a peer that is gone for another five seconds.
#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_opens_the_breaker_after_twenty_calls_in_any_window() {
    let peer = Peer::always(Do::Reply(200));
    let stack = stack(one_attempt(), &peer);
    for _ in 0..1_000 {
        call(&stack, get()).await.unwrap();
    }
    peer.turn([Do::Refuse]);
    for _ in 0..20 {
        assert_eq!(call(&stack, get()).await.unwrap_err().outcome(), Outcome::FailedKnown);
    }
    assert_eq!(call(&stack, get()).await.unwrap_err().outcome(), Outcome::RejectedUnsent);
}

/// Three good probes with pauses between them, and a time-windowed half-open state that never closed: 20 of 20
/// healthy calls refused.
#[tokio::test(start_paused = true)]
async fn half_open_closes_however_far_apart_its_probes_are() {
    let peer = Peer::always(Do::Refuse);
    let stack = stack(one_attempt(), &peer);
    for _ in 0..5 {
        call(&stack, get()).await.unwrap_err();
    }
    peer.turn([Do::Reply(200)]);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_hours(1)).await;
        call(&stack, get()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..20 {
        call(&stack, get()).await.unwrap();
    }
    assert_eq!(stack.breakers().get(HOST).unwrap().state(), BreakerState::Closed);
}

/// A gauge that read open, and an alert that fired, while nothing called a peer that was well again.
#[tokio::test(start_paused = true)]
async fn an_idle_breakers_gauge_follows_its_state() {
    let recorder = Recorder::new();
    let peer = Peer::always(Do::Refuse);
    let stack = stack(one_attempt(), &peer);
    let shown = |state: &str| {
        let series = format!("mainstay_breaker_state{{peer=inventory,endpoint={HOST},state={state}}}");
        recorder.metrics().iter().any(|(key, value)| *key == series && value[0] > 0.0)
    };
    for _ in 0..5 {
        call(&stack, get()).await.unwrap_err();
    }
    assert!(shown("open"));
    tokio::time::sleep(Duration::from_mins(1)).await;
    stack.breakers().refresh_gauges();
    assert!(shown("half-open") && !shown("open"));
    peer.turn([Do::Reply(200)]);
    for _ in 0..3 {
        call(&stack, get()).await.unwrap();
    }
    assert!(shown("ramping"));
    tokio::time::sleep(Duration::from_mins(1)).await;
    stack.breakers().refresh_gauges();
    assert!(shown("closed") && !shown("ramping"));
}

/// A gauge that read 1 for open, half-open and closed at once.
#[tokio::test(start_paused = true)]
async fn exactly_one_state_gauge_reads_one() {
    let recorder = Recorder::new();
    let peer = Peer::always(Do::Refuse);
    let stack = stack(one_attempt(), &peer);
    let shown = || {
        let metrics = recorder.metrics();
        let prefix = format!("mainstay_breaker_state{{peer=inventory,endpoint={HOST},state=");
        let on: Vec<_> = metrics.iter().filter(|(k, v)| k.starts_with(&prefix) && v[0] > 0.0).collect();
        assert_eq!(on.len(), 1, "{on:?}");
        on[0].0[prefix.len()..].trim_end_matches('}').to_owned()
    };
    call(&stack, get()).await.unwrap_err();
    assert_eq!(shown(), "closed");
    for _ in 0..4 {
        call(&stack, get()).await.unwrap_err();
    }
    assert_eq!(shown(), "open");
    peer.turn([Do::Reply(200)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    call(&stack, get()).await.unwrap();
    assert_eq!(shown(), "half-open");
    for _ in 0..2 {
        call(&stack, get()).await.unwrap();
    }
    assert_eq!(shown(), "ramping");
    tokio::time::sleep(Duration::from_secs(1)).await;
    call(&stack, get()).await.unwrap();
    assert_eq!(shown(), "closed");
}

/// The breaker counted none of fifty timed-out calls, because the timeout was outside of it.
#[tokio::test(start_paused = true)]
async fn timeouts_reach_the_breaker_also_from_the_total_deadline() {
    let peer = Peer::always(Do::Hang);
    let total_timeout = Duration::from_millis(300);
    let stack = stack(one_attempt().total_timeout(total_timeout).attempt_timeout(total_timeout), &peer);
    for _ in 0..5 {
        assert_eq!(call(&stack, get()).await.unwrap_err().outcome(), Outcome::Unknown);
    }
    assert_eq!(stack.breakers().get(HOST).unwrap().state(), BreakerState::Open);
}

/// A late result from before the trip closed the circuit while the probe was still in flight.
#[tokio::test(start_paused = true)]
async fn a_late_result_changes_no_state() {
    let peer = Peer::script([Do::after_ms(900, Do::Reply(200)), Do::after_ms(900, Do::Refuse), Do::Refuse]);
    let stack = stack(one_attempt(), &peer);
    let mut good = Box::pin(call(&stack, get()));
    begin(&mut good).await;
    let mut bad = Box::pin(call(&stack, get()));
    begin(&mut bad).await;
    for _ in 0..5 {
        call(&stack, get()).await.unwrap_err();
    }
    let breaker = stack.breakers().get(HOST).unwrap();
    let open_for = breaker.snapshot().open_for_ms;
    assert_eq!(breaker.state(), BreakerState::Open);
    tokio::time::sleep(Duration::from_millis(open_for)).await;
    peer.turn([Do::Hang]);
    let mut probe = Box::pin(call(&stack, get()));
    begin(&mut probe).await;
    good.await.unwrap();
    assert_eq!(breaker.state(), BreakerState::HalfOpen, "a late success must not close the breaker");
    bad.await.unwrap_err();
    assert_eq!(breaker.state(), BreakerState::HalfOpen, "a late failure must not open the breaker");
    assert_eq!(breaker.snapshot().calls, 0);
}

/// A hundred concurrent calls were all admitted as half-open probes.
#[tokio::test(start_paused = true)]
async fn a_hundred_callers_make_three_probes() {
    let breakers = Breakers::new("inventory", BreakerConfig::default(), Random::seeded(1)).unwrap();
    let peer = Peer::always(Do::Refuse);
    let client = BreakerLayer::new(breakers.clone()).layer(peer.clone());
    for _ in 0..5 {
        client.clone().oneshot(get()).await.unwrap_err();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    peer.turn([Do::after_ms(10, Do::Reply(200))]);
    let before = peer.calls();
    join_all((0..100).map(|_| client.clone().oneshot(get()))).await;
    assert_eq!(peer.calls() - before, 3);
}

/// tower's budget granted every retry for configured ratios from 0.6, and 500 successes of a token bucket permitted 500.
#[tokio::test(start_paused = true)]
async fn a_budget_of_n_per_cent_is_n_per_cent() {
    for percent in [1, 10, 15, 30, 40, 50, 60, 75, 90, 100] {
        let budget = RetryBudget::new(&BudgetConfig::default().percent(percent).floor_per_second(0)).unwrap();
        let now = Instant::now();
        for _ in 0..1_000 {
            budget.deposit(now);
        }
        let granted = (0..2_000).filter(|_| budget.withdraw(now).is_ok()).count();
        assert_eq!(granted, usize::try_from(percent).unwrap() * 10);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(budget.withdraw(Instant::now()).is_err(), "deposits end with their window");
    }
}

/// tower's jitter vanished at the cap, so that clients retried at the same time.
#[tokio::test(start_paused = true)]
async fn jitter_is_full_at_the_cap_too() {
    let mut waits = Vec::new();
    for seed in 0..50 {
        let peer = Peer::always(Do::Reply(502));
        let retry = RetryConfig::default()
            .max_attempts(6)
            .backoff_base(Duration::from_millis(100))
            .backoff_cap(Duration::from_millis(100));
        let stack = stack(config().retry(retry).seed(Some(seed)), &peer);
        stack.budget().deposit_many(1_000);
        stack.breakers().endpoint(&mainstay::Endpoint::parse(HOST).unwrap()).force_closed();
        call(&stack, get()).await.unwrap();
        let seen = peer.seen();
        waits.extend(seen.windows(2).map(|pair| (pair[1].at - pair[0].at).as_millis()));
    }
    assert_eq!(waits.len(), 250);
    for tenth in 0..10 {
        let within = waits.iter().filter(|&&ms| (tenth * 10..tenth * 10 + 10).contains(&ms)).count();
        assert!((10..=45).contains(&within), "{within} of 250 in the {tenth}th tenth");
    }
}

/// LoadShed over a shared ConcurrencyLimit shed every call while none was in flight: an idle clone held the permit.
#[tokio::test(start_paused = true)]
async fn an_idle_clone_holds_no_permit_of_the_bulkhead() {
    let peer = Peer::always(Do::after_ms(10, Do::Reply(200)));
    let layer = BulkheadLayer::new("inventory", 1).unwrap();
    let client = layer.layer(peer.clone());
    let mut busy = Box::pin(client.clone().oneshot(get()));
    begin(&mut busy).await;
    let mut idle = client.clone();
    idle.ready().await.unwrap();
    busy.await.unwrap();
    assert_eq!(layer.in_flight(), 0);
    client.oneshot(get()).await.unwrap();
    drop(idle);
}

/// A permit that ends with the reply's head does not limit streaming bodies.
#[tokio::test(start_paused = true)]
async fn a_streaming_body_holds_its_permit_until_it_ends_or_is_dropped() {
    use http_body_util::{BodyExt as _, Full};

    let streams = service_fn(|_: Request<Bytes>| async {
        Ok::<_, CallError>(Response::new(Full::<Bytes>::from("part")))
    });
    let layer = BulkheadLayer::new("inventory", 1).unwrap();
    let client = layer.streaming().layer(streams);
    let ask = || client.clone().oneshot(Request::new(Bytes::new()));
    let mut reply = ask().await.unwrap();
    assert!(
        matches!(ask().await, Err(CallError::BulkheadFull { .. })),
        "the head has arrived and the body has not"
    );
    assert_eq!(reply.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "part");
    assert_eq!(layer.in_flight(), 1);
    assert!(reply.body_mut().frame().await.is_none());
    assert_eq!(layer.in_flight(), 0, "the body has ended");
    let dropped = ask().await.unwrap();
    assert_eq!(layer.in_flight(), 1);
    drop(dropped);
    assert_eq!(layer.in_flight(), 0);
}

/// A limit for each connection does not limit the total.
#[tokio::test(start_paused = true)]
async fn layering_twice_shares_the_limit() {
    let peer = Peer::always(Do::after_ms(10, Do::Reply(200)));
    let layer = BulkheadLayer::new("inventory", 2).unwrap();
    let results = join_all((0..12).map(|_| layer.clone().layer(peer.clone()).oneshot(get()))).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 2);
    assert_eq!(peer.most(), 2);
}

/// A timeout that polls its timer first loses a finished reply.
#[tokio::test(start_paused = true)]
async fn a_reply_that_has_arrived_wins_over_a_timer_that_has_fired() {
    let timeout = Duration::from_millis(100);
    let peer = service_fn(move |_: Request<Bytes>| async move {
        tokio::time::sleep(timeout).await;
        Ok::<_, CallError>(Response::new(Bytes::new()))
    });
    let client = AttemptTimeoutLayer::new("inventory", timeout).unwrap().layer(peer);
    for _ in 0..20 {
        assert!(client.clone().oneshot(Request::new(Bytes::new())).await.is_ok());
    }
}

/// tower's timeout does not cover readiness: a transport that never became ready left the call pending for ever.
#[tokio::test(start_paused = true)]
async fn a_transport_that_is_never_ready_is_timed_out() {
    #[derive(Clone)]
    struct Unready;
    impl Service<Request<Bytes>> for Unready {
        type Response = Response<Bytes>;
        type Error = CallError;
        type Future = std::future::Pending<Result<Response<Bytes>, CallError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
            Poll::Pending
        }
        fn call(&mut self, _: Request<Bytes>) -> Self::Future {
            std::future::pending()
        }
    }
    let client = AttemptTimeoutLayer::new("inventory", Duration::from_millis(50)).unwrap().layer(Unready);
    let error = client.oneshot(Request::new(Bytes::new())).await.unwrap_err();
    assert!(matches!(error, CallError::AttemptTimedOut { .. }));
}

/// A waiter that woke itself: 1.08 million polls in 490 ms.
#[tokio::test(start_paused = true)]
async fn waiting_does_not_poll_in_a_loop() {
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let peer = Peer::script([Do::after_ms(400, Do::Reply(502)), Do::after_ms(400, Do::Reply(200))]);
    let stack = stack(config(), &peer);
    let mut whole = Box::pin(call(&stack, get()));
    std::future::poll_fn(move |cx| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::Future::poll(whole.as_mut(), cx)
    })
    .await
    .unwrap();
    assert!(polls.load(Ordering::SeqCst) < 10, "{} polls in 800 ms", polls.load(Ordering::SeqCst));
}

/// POST was retried by default on timeout.
#[tokio::test(start_paused = true)]
async fn a_write_without_a_key_is_sent_once() {
    for act in [Do::Hang, Do::Lose, Do::Reply(500), Do::Reply(503)] {
        let peer = Peer::always(act);
        let stack = stack(config(), &peer);
        stack.budget().deposit_many(1_000);
        let result = call(&stack, post()).await;
        assert_eq!(mainstay::classify::outcome(&result), Outcome::Unknown);
        assert_eq!(peer.calls(), 1);
    }
}

/// An open breaker used up the retry budget, and its refusals counted as failures of the dependency.
#[tokio::test(start_paused = true)]
async fn a_call_that_was_not_sent_is_not_counted() {
    let recorder = Recorder::new();
    let peer = Peer::always(Do::Refuse);
    let stack = stack(config(), &peer);
    let breaker = stack.breakers().endpoint(&mainstay::Endpoint::parse(HOST).unwrap());
    breaker.force_open();
    for _ in 0..100 {
        call(&stack, get()).await.unwrap_err();
    }
    assert_eq!(peer.calls(), 0);
    assert_eq!((breaker.snapshot().calls, breaker.snapshot().failures), (0, 0));
    let metrics = recorder.metrics();
    assert_eq!(metrics["mainstay_client_requests_total{peer=inventory,outcome=rejected-unsent}"], [100.0]);
    assert_eq!(metrics["mainstay_client_requests_total{peer=inventory,outcome=failed-known}"], [0.0]);
}

/// A peer that sheds a part of the load still serves the rest; an open breaker would refuse the rest too.
#[tokio::test(start_paused = true)]
async fn shedding_does_not_open_the_breaker() {
    let peer = Peer::always(Do::ComeBackAfter(5));
    let stack = stack(one_attempt(), &peer);
    for _ in 0..100 {
        call(&stack, get()).await.ok();
    }
    assert!((20..60).contains(&peer.calls()), "some are held back: {} sent", peer.calls());
    assert_eq!(stack.breakers().get(HOST).unwrap().state(), BreakerState::Closed);
    peer.turn([Do::Reply(200)]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut refused = 0;
    for _ in 0..1_000 {
        refused += usize::from(call(&stack, get()).await.is_err());
    }
    assert!(refused < 600, "calls continue to probe the peer and find its recovery: {refused}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    for _ in 0..100 {
        call(&stack, get()).await.unwrap();
    }
}
