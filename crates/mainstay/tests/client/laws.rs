//! The laws that concern a client. Each has one test or more, named after it.

use std::time::Duration;

use futures_util::future::join_all;
use mainstay::breaker::{BreakerConfig, BreakerState};
use mainstay::client::ClientConfig;
use mainstay::retry::RetryConfig;
use mainstay::{CallError, Outcome, RequestContext, classify};
use tokio::time::Instant;
use tower::{Service as _, ServiceExt as _};

use crate::recorder::Recorder;
use crate::support::{
    DepositMany as _, Do, HOST, Peer, With as _, begin, call, config, get, get_from, post, post_with_key,
    stack,
};

fn one_attempt() -> ClientConfig {
    config().retry(RetryConfig::default().max_attempts(1))
}

#[tokio::test(start_paused = true)]
async fn law_01_every_layer_uses_the_same_verdict() {
    let table = [
        (Do::Reply(200), Outcome::Success),
        (Do::Reply(409), Outcome::Refused),
        (Do::Reply(401), Outcome::ClientFault),
        (Do::ComeBackAfter(1), Outcome::Throttled),
        (Do::Reply(500), Outcome::Unknown),
        (Do::Says(500, "not-executed"), Outcome::FailedKnown),
        (Do::Refuse, Outcome::FailedKnown),
        (Do::Lose, Outcome::Unknown),
        (Do::Hang, Outcome::Unknown),
    ];
    for (act, verdict) in table {
        let recorder = Recorder::new();
        let stack = stack(one_attempt(), &Peer::always(act.clone()));
        let context = RequestContext::background(Duration::from_secs(5));
        let result = call(&stack, get().with(&context)).await;
        assert_eq!(classify::outcome(&result), verdict, "{act:?}: the caller's outcome");
        let metrics = recorder.metrics();
        let labels = format!("{{peer=inventory,outcome={verdict}}}");
        for name in ["mainstay_client_attempts_total", "mainstay_client_requests_total"] {
            assert_eq!(metrics[&format!("{name}{labels}")], [1.0], "{act:?}: {name}");
        }
        assert_eq!(metrics[&format!("mainstay_client_request_duration_seconds{labels}")].len(), 1);
        let trail = context.trail.snapshot();
        assert!(trail.iter().any(|d| d.layer == "attempt" && d.action == verdict.as_str()), "{trail:?}");
        let breaker = stack.breakers().get(HOST).unwrap().snapshot();
        let bad = matches!(verdict, Outcome::Unknown | Outcome::FailedKnown);
        assert_eq!(breaker.failures, u64::from(bad), "{act:?}: the breaker's count");
    }
}

#[tokio::test(start_paused = true)]
async fn law_02_an_unknown_outcome_is_retried_only_when_that_is_safe() {
    for (request, attempts) in [(get(), 3), (post_with_key(), 3), (post(), 1)] {
        let peer = Peer::always(Do::Lose);
        let stack = stack(config(), &peer);
        stack.budget().deposit_many(100);
        let method = request.method().clone();
        let error = call(&stack, request).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{method}: the caller must get unknown as a value");
        assert_eq!(peer.calls(), attempts, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn law_02_the_key_stays_the_same_and_the_attempt_is_counted() {
    let peer = Peer::script([Do::Lose, Do::Reply(502), Do::Reply(201)]);
    let stack = stack(config(), &peer);
    stack.budget().deposit_many(100);
    let reply = call(&stack, post_with_key()).await.unwrap();
    assert_eq!(reply.status(), 201);
    let seen = peer.seen();
    let of = |name: &str| seen.iter().map(|s| s.header(name).to_owned()).collect::<Vec<_>>();
    assert_eq!(of("idempotency-key"), ["0123456789abcdef"; 3]);
    assert_eq!(of("x-attempt"), ["1", "2", "3"]);
    assert_eq!(of("x-correlation-id")[0], of("x-correlation-id")[2]);
    let (trace, spans): (Vec<_>, Vec<_>) =
        of("traceparent").iter().map(|t| (t[3..35].to_owned(), t[36..52].to_owned())).unzip();
    assert_eq!(trace[0], trace[2], "one trace");
    assert_ne!(spans[0], spans[2], "a span for each attempt");
}

#[tokio::test(start_paused = true)]
async fn law_02_once_unknown_stays_unknown_until_the_peer_settles_it() {
    // The first attempt of a write may have had its effect. The second attempt's reply is about the second attempt
    // only.
    let open_ended = [
        (Do::Refuse, "not sent"),
        (Do::Says(503, "not-executed"), "not executed"),
        (Do::Reply(401), "not allowed"),
    ];
    for (second, what) in open_ended {
        let peer = Peer::script([Do::Lose, second]);
        let stack = stack(config().retry(RetryConfig::default().max_attempts(2)), &peer);
        let error = call(&stack, post_with_key()).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{what}");
        assert!(
            matches!(error, CallError::EarlierAttemptUnknown { attempt: 1, attempts: 2, .. }),
            "{what}: {error:?}"
        );
        assert_eq!(peer.calls(), 2);
    }
    for settled in [Do::Reply(201), Do::Reply(404), Do::Says(409, "refused")] {
        let stack = stack(config(), &Peer::script([Do::Lose, settled]));
        call(&stack, post_with_key()).await.unwrap();
    }
    // The first attempt may still be in progress. Without an earlier unknown attempt, a conflict is an answer.
    for conflict in [409, 425] {
        let stack = stack(config(), &Peer::script([Do::Lose, Do::Reply(conflict)]));
        let error = call(&stack, post_with_key()).await.unwrap_err();
        assert!(matches!(error, CallError::EarlierAttemptUnknown { .. }), "{conflict}: {error:?}");
        let stack = crate::support::stack(config(), &Peer::always(Do::Reply(conflict)));
        assert_eq!(call(&stack, post_with_key()).await.unwrap().status(), conflict);
    }
    // A read has no effect, so an unknown attempt leaves nothing to settle.
    let stack = stack(config(), &Peer::script([Do::Lose, Do::Reply(401)]));
    assert_eq!(call(&stack, get()).await.unwrap().status(), 401);
}

#[tokio::test(start_paused = true)]
async fn law_03_the_sent_deadline_is_the_time_left_less_the_reserve() {
    let peer = Peer::script([Do::after_ms(400, Do::Reply(500)), Do::Reply(200)]);
    let stack = stack(config(), &peer);
    call(&stack, get().within_ms(900)).await.unwrap();
    let seen = peer.seen();
    assert_eq!(seen[0].deadline_ms(), 850, "50 ms are kept for this hop");
    let waited = seen[1].at - seen[0].at;
    assert!(waited >= Duration::from_millis(400));
    assert!(seen[1].deadline_ms() <= 450, "the time left only falls");
    assert!(
        Duration::from_millis(seen[1].deadline_ms()) <= Duration::from_millis(850).saturating_sub(waited)
    );
}

#[tokio::test(start_paused = true)]
async fn law_03_the_sent_deadline_is_at_most_the_attempt_timeout() {
    let peer = Peer::always(Do::Reply(200));
    call(&stack(config(), &peer), get().within_ms(60_000)).await.unwrap();
    assert_eq!(peer.seen()[0].deadline_ms(), 1_000, "the attempt timeout, not the caller's minute");
}

#[tokio::test(start_paused = true)]
async fn law_03_a_process_that_was_paused_starts_no_expired_attempt() {
    let peer = Peer::always(Do::Reply(200));
    let mut stack = stack(config(), &peer);
    let context = RequestContext::background(Duration::from_secs(1));
    // Every layer has checked the deadline. Then the process is paused, and only after that the attempt begins.
    let call = stack.ready().await.unwrap().call(get().with(&context));
    tokio::time::advance(Duration::from_secs(3)).await;
    let error = call.await.unwrap_err();
    assert!(matches!(error, CallError::DeadlineTooNear { .. }), "{error:?}");
    assert_eq!(peer.calls(), 0, "an attempt without time must not be sent");
}

#[tokio::test(start_paused = true)]
async fn law_03_a_call_or_wait_without_enough_time_does_not_begin() {
    let peer = Peer::always(Do::ComeBackAfter(1));
    let stack = stack(config(), &peer);
    let began = Instant::now();
    let error = call(&stack, get().within_ms(54)).await.unwrap_err();
    assert!(matches!(error, CallError::DeadlineTooNear { .. }), "{error:?}");
    assert_eq!((error.outcome(), peer.calls()), (Outcome::RejectedUnsent, 0), "expired work is not sent");

    let reply = call(&stack, get().within_ms(1_000)).await.unwrap();
    assert_eq!(reply.status(), 503, "a wait of a second does not fit, so the reply is returned");
    assert_eq!((peer.calls(), began.elapsed()), (1, Duration::ZERO), "no wait was begun");
}

#[tokio::test(start_paused = true)]
async fn law_03_the_whole_call_ends_at_its_deadline() {
    let peer = Peer::always(Do::Hang);
    let stack = stack(config(), &peer);
    stack.budget().deposit_many(1_000);
    let began = Instant::now();
    let error = call(&stack, get().within_ms(1_550)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(began.elapsed(), Duration::from_millis(1_500));
    assert_eq!((peer.calls(), peer.inside()), (2, 0), "one second, then the rest of the time");
}

#[tokio::test(start_paused = true)]
async fn law_04_under_total_failure_retries_decay_to_the_floor() {
    let peer = Peer::always(Do::Reply(200));
    // The breaker would hide the effect of the budget.
    let breaker = BreakerConfig::default().min_calls(10_000).consecutive_failures(10_000);
    let stack = stack(config().breaker(breaker), &peer);
    for _ in 0..1_000 {
        call(&stack, get()).await.unwrap();
    }
    peer.turn([Do::Reply(500)]);
    let mut extra = Vec::new();
    for _ in 0..30 {
        let before = peer.calls();
        let second = join_all((0..100).map(|_| call(&stack, get())));
        second.await.into_iter().for_each(|result| assert_eq!(result.unwrap().status(), 500));
        tokio::time::sleep(Duration::from_secs(1)).await;
        extra.push(peer.calls() - before - 100);
    }
    let whole: usize = extra.iter().sum();
    assert!(extra[0] >= 100, "the budget of 1,000 answers is used: {extra:?}");
    assert!(whole <= 100 + 31, "10 % of the successes, and one a second: {extra:?}");
    assert!(extra[11..].iter().all(|&n| n <= 2), "then only the floor: {extra:?}");
}

#[tokio::test(start_paused = true)]
async fn law_04_local_rejections_do_not_use_the_budget() {
    let peer = Peer::always(Do::Reply(200));
    let stack = stack(config(), &peer);
    stack.budget().deposit_many(100);
    call(&stack, get()).await.unwrap();
    stack.breakers().get(HOST).unwrap().force_open();
    for _ in 0..50 {
        let error = call(&stack, get()).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::RejectedUnsent);
    }
    assert_eq!(peer.calls(), 1, "local rejections are not retried");
    assert_eq!(stack.budget().available(Instant::now()), 10);
}

#[tokio::test(start_paused = true)]
async fn law_04_a_call_whose_caller_retries_is_not_retried_here() {
    let peer = Peer::always(Do::Reply(500));
    let stack = stack(config(), &peer);
    stack.budget().deposit_many(100);
    let mut context = RequestContext::background(Duration::from_secs(5));
    context.attempt = 2;
    assert_eq!(call(&stack, get().with(&context)).await.unwrap().status(), 500);
    assert_eq!(peer.calls(), 1);
    assert_eq!(peer.seen()[0].header("x-attempt"), "2", "later hops get the attempt number too");
    let trail = context.trail.snapshot();
    assert!(trail.iter().any(|d| d.layer == "retry" && d.action == "give_up"), "{trail:?}");
}

#[tokio::test(start_paused = true)]
async fn law_04_a_retry_waits_for_the_time_the_peer_asks() {
    let peer = Peer::script([Do::ComeBackAfter(1), Do::Reply(200)]);
    let stack = stack(config(), &peer);
    assert_eq!(
        call(&stack, post()).await.unwrap().status(),
        200,
        "not executed, so retried even without a key"
    );
    let seen = peer.seen();
    let waited = seen[1].at - seen[0].at;
    assert!(waited >= Duration::from_secs(1) && waited <= Duration::from_millis(1_026), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn law_05_the_breaker_opens_at_half_of_at_least_twenty_calls() {
    let peer = Peer::always(Do::Reply(200));
    let stack = stack(one_attempt(), &peer);
    for failed in [false, true].into_iter().cycle().take(19) {
        peer.turn([if failed { Do::Reply(500) } else { Do::Reply(200) }]);
        call(&stack, get()).await.unwrap();
    }
    let breaker = stack.breakers().get(HOST).unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed, "19 calls are too few to judge");
    assert_eq!((breaker.snapshot().calls, breaker.snapshot().failures), (19, 9));
    peer.turn([Do::Reply(500)]);
    call(&stack, get()).await.unwrap();
    assert_eq!(breaker.state(), BreakerState::Open, "10 of 20");
}

#[tokio::test(start_paused = true)]
async fn law_05_slow_calls_open_the_breaker_too() {
    let peer = Peer::always(Do::after_ms(600, Do::Reply(200)));
    let stack = stack(one_attempt(), &peer);
    join_all((0..20).map(|_| call(&stack, get()))).await.into_iter().for_each(|r| assert!(r.is_ok()));
    assert_eq!(stack.breakers().get(HOST).unwrap().state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn law_05_the_breaker_of_a_quiet_client_opens_after_five_failures_in_a_row() {
    let peer = Peer::always(Do::Refuse);
    let stack = stack(one_attempt(), &peer);
    for _ in 0..5 {
        assert_eq!(call(&stack, get()).await.unwrap_err().outcome(), Outcome::FailedKnown);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let error = call(&stack, get()).await.unwrap_err();
    // The wait after the first opening is at most a second, which has passed; the next call is a probe.
    assert_eq!(error.outcome(), Outcome::FailedKnown);
    let error = call(&stack, get()).await.unwrap_err();
    let CallError::BreakerRejected { open_for, state, .. } = error else { panic!("{error:?}") };
    assert_eq!(state, BreakerState::Open);
    assert!(open_for > Duration::ZERO && open_for <= Duration::from_secs(2), "{open_for:?}");
}

#[tokio::test(start_paused = true)]
async fn law_05_open_waits_are_spread_between_half_a_second_and_two() {
    let mut waits = Vec::new();
    for seed in 0..40 {
        let peer = Peer::always(Do::Refuse);
        let stack = stack(one_attempt().seed(Some(seed)), &peer);
        for _ in 0..5 {
            call(&stack, get()).await.unwrap_err();
        }
        let breaker = stack.breakers().get(HOST).unwrap();
        let first = Duration::from_millis(breaker.snapshot().open_for_ms);
        assert!((500..=1_000).contains(&first.as_millis()), "{first:?}");
        tokio::time::sleep(first).await;
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        call(&stack, get()).await.unwrap_err();
        let second = breaker.snapshot().open_for_ms;
        assert!((1_000..=2_000).contains(&second), "doubled after a failed probe: {second}");
        waits.push(second);
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 30, "the clients' waits must differ: {waits:?}");
}

#[tokio::test(start_paused = true)]
async fn law_05_after_three_probes_traffic_ramps_back() {
    let peer = Peer::always(Do::Refuse);
    let stack = stack(one_attempt(), &peer);
    for _ in 0..5 {
        call(&stack, get()).await.unwrap_err();
    }
    let breaker = stack.breakers().get(HOST).unwrap();
    peer.turn([Do::Reply(200)]);
    tokio::time::sleep(Duration::from_millis(breaker.snapshot().open_for_ms)).await;
    for _ in 0..3 {
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        call(&stack, get()).await.unwrap();
    }
    assert_eq!(breaker.state(), BreakerState::Ramping);
    let share = async |calls: usize| {
        let results = join_all((0..calls).map(|_| call(&stack, get()))).await;
        results.into_iter().flatten().count()
    };
    let early = share(100).await;
    assert!((10..=20).contains(&early), "about a tenth at first: {early}");
    tokio::time::sleep(Duration::from_millis(250)).await;
    let halfway = share(100).await;
    assert!((50..=100).contains(&halfway), "more later: {halfway}");
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(share(100).await, 100);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn law_06_probes_are_bounded_in_number_and_in_time() {
    let peer = Peer::always(Do::Refuse);
    let stack = stack(one_attempt(), &peer);
    for _ in 0..5 {
        call(&stack, get()).await.unwrap_err();
    }
    let breaker = stack.breakers().get(HOST).unwrap();
    tokio::time::sleep(Duration::from_millis(breaker.snapshot().open_for_ms)).await;
    peer.turn([Do::Hang]);
    let before = peer.calls();
    let began = Instant::now();
    let results = join_all((0..100).map(|_| call(&stack, get()))).await;
    assert_eq!(peer.calls() - before, 3, "three probes of a hundred calls");
    assert_eq!(began.elapsed(), Duration::from_millis(500), "a probe ends at its own timeout");
    assert!(peer.seen()[before].deadline_ms() <= 500, "the peer gets the probe's deadline");
    let unsent = |r: &Result<_, CallError>| r.as_ref().is_err_and(|e| e.outcome() == Outcome::RejectedUnsent);
    assert_eq!(results.iter().filter(|r| unsent(r)).count(), 97);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn law_07_cancelled_calls_are_recorded_and_return_every_permit() {
    let recorder = Recorder::new();
    let peer = Peer::always(Do::Hang);
    let stack = stack(config(), &peer);
    let context = RequestContext::background(Duration::from_secs(5));
    let mut calls: Vec<_> = (0..10).map(|_| Box::pin(call(&stack, get().with(&context)))).collect();
    for call in &mut calls {
        begin(call).await;
    }
    assert_eq!((stack.in_flight(), peer.inside()), (10, 10));
    tokio::time::advance(Duration::from_millis(100)).await;
    drop(calls);
    assert_eq!((stack.in_flight(), peer.inside()), (0, 0));
    let metrics = recorder.metrics();
    assert_eq!(metrics["mainstay_client_requests_total{peer=inventory,outcome=cancelled}"], [10.0]);
    assert_eq!(metrics["mainstay_client_attempts_total{peer=inventory,outcome=cancelled}"], [10.0]);
    assert_eq!(metrics["mainstay_client_in_flight{peer=inventory}"], [0.0]);
    let took = &metrics["mainstay_client_request_duration_seconds{peer=inventory,outcome=cancelled}"];
    assert_eq!(took.len(), 10);
    assert!(took.iter().all(|&s| (0.099..0.102).contains(&s)), "{took:?}");
    assert_eq!(context.trail.snapshot().iter().filter(|d| d.action == "cancelled").count(), 10);
    let breaker = stack.breakers().get(HOST).unwrap().snapshot();
    assert_eq!((breaker.calls, breaker.failures), (0, 0), "a caller that left shows nothing of the peer");
}

#[tokio::test(start_paused = true)]
async fn law_07_a_call_dropped_at_its_deadline_counts_as_slow() {
    let peer = Peer::always(Do::Hang);
    let stack = stack(config(), &peer);
    let context = RequestContext::background(Duration::from_millis(600));
    let mut late = Box::pin(call(&stack, get().with(&context)));
    begin(&mut late).await;
    tokio::time::advance(Duration::from_millis(600)).await;
    drop(late);
    let breaker = stack.breakers().get(HOST).unwrap().snapshot();
    assert_eq!((breaker.calls, breaker.failures), (1, 1));
}

/// A call cut short by its caller's deadline shows nothing of the endpoint or its load: the caller did not wait for
/// as long as a call may take.
#[tokio::test(start_paused = true)]
async fn law_09_callers_with_short_deadlines_do_not_open_the_breaker_for_the_others() {
    let peer = Peer::always(Do::after_ms(100, Do::Reply(200)));
    let stack = stack(config(), &peer);
    for _ in 0..30 {
        let error = call(&stack, get().within_ms(90)).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown);
    }
    let breaker = stack.breakers().get(HOST).unwrap();
    assert_eq!((breaker.state(), breaker.snapshot().calls), (BreakerState::Closed, 0));
    call(&stack, get()).await.unwrap();
    peer.turn([Do::Hang]);
    for _ in 0..5 {
        call(&stack, post().within_ms(700)).await.unwrap_err();
    }
    assert_eq!(breaker.state(), BreakerState::Open, "a call that took longer than slow_call counts");
}

#[tokio::test(start_paused = true)]
async fn law_06_probes_that_are_not_returned_count_as_failed() {
    let peer = Peer::always(Do::Refuse);
    let stack = stack(one_attempt(), &peer);
    for _ in 0..5 {
        call(&stack, get()).await.unwrap_err();
    }
    let breaker = stack.breakers().get(HOST).unwrap();
    tokio::time::sleep(Duration::from_millis(breaker.snapshot().open_for_ms)).await;
    let kept: Vec<_> = (0..3).map(|_| breaker.try_acquire(None).unwrap()).collect();
    breaker.try_acquire(None).unwrap_err();
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    tokio::time::sleep(Duration::from_millis(1_010)).await;
    breaker.try_acquire(None).unwrap_err();
    assert_eq!(breaker.state(), BreakerState::Open, "twice the probe timeout has passed");
    peer.turn([Do::Reply(200)]);
    tokio::time::sleep(Duration::from_millis(breaker.snapshot().open_for_ms)).await;
    for _ in 0..3 {
        call(&stack, get()).await.unwrap();
    }
    for permit in kept {
        permit.finish(Outcome::Unknown);
    }
    assert_eq!(breaker.state(), BreakerState::Ramping, "a result that arrives so late changes no state");
}

#[tokio::test(start_paused = true)]
async fn law_08_nothing_scarce_is_held_while_idle() {
    let peer = Peer::always(Do::Reply(200));
    let stack = stack(config().max_in_flight(1), &peer);
    let mut idle = stack.clone();
    idle.ready().await.unwrap();
    call(&stack, get()).await.unwrap();
    assert_eq!(stack.in_flight(), 0);
    idle.call(get()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn law_08_a_call_that_waits_for_a_retry_holds_no_permit() {
    let peer = Peer::script([Do::ComeBackAfter(1), Do::Reply(200)]);
    let stack = stack(config().max_in_flight(1), &peer);
    let mut waiting = Box::pin(call(&stack, get()));
    begin(&mut waiting).await;
    assert_eq!(stack.in_flight(), 0);
    assert_eq!(call(&stack, get()).await.unwrap().status(), 200);
    assert_eq!(waiting.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn law_09_a_dead_endpoint_does_not_open_a_healthy_ones_breaker() {
    let peer = Peer::always(Do::Refuse);
    let stack = stack(one_attempt(), &peer);
    for _ in 0..5 {
        call(&stack, get_from("10.0.0.5:80")).await.unwrap_err();
    }
    peer.turn([Do::Reply(200)]);
    for host in ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"] {
        call(&stack, get_from(host)).await.unwrap();
    }
    let states: Vec<_> = stack.breakers().list().into_iter().map(|b| (b.name, b.state)).collect();
    assert_eq!(states.iter().filter(|(_, state)| *state == BreakerState::Closed).count(), 4, "{states:?}");
    assert_eq!(states[4], ("10.0.0.5:80".to_owned(), BreakerState::Open));
}

#[tokio::test(start_paused = true)]
async fn law_09_the_registry_is_bounded_and_keeps_open_and_forced_breakers() {
    let breaker = BreakerConfig::default().max_endpoints(3);
    let stack = stack(one_attempt().breaker(breaker), &Peer::always(Do::Reply(200)));
    call(&stack, get_from("sick:80")).await.unwrap();
    stack.breakers().get("sick:80").unwrap().force_open();
    for n in 0..50 {
        call(&stack, get_from(&format!("host-{n}:80"))).await.unwrap();
        tokio::time::advance(Duration::from_secs(2)).await;
    }
    let names: Vec<_> = stack.breakers().list().into_iter().map(|b| b.name).collect();
    assert_eq!(names, ["host-48:80", "host-49:80", "sick:80"], "an operator's order must not be evicted");
    call(&stack, get_from("sick:80")).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn law_12_each_decision_is_one_event_and_one_entry_of_the_trail() {
    let recorder = Recorder::new();
    let peer = Peer::script([Do::Reply(502), Do::Reply(200)]);
    let stack = stack(config(), &peer);
    let context = RequestContext::background(Duration::from_secs(1));
    call(&stack, get().with(&context)).await.unwrap();
    let events = recorder.at("mainstay::decision");
    let trail = context.trail.snapshot();
    let said: Vec<_> =
        events.iter().map(|e| (e["layer"].as_str().unwrap(), e["action"].as_str().unwrap())).collect();
    assert_eq!(said, [("attempt", "unknown"), ("retry", "retry"), ("attempt", "success")]);
    let kept: Vec<_> = trail.iter().map(|d| (&*d.layer, &*d.action)).collect();
    assert_eq!(kept, said);
    let retry = &events[1];
    assert_eq!(retry["correlation_id"], context.correlation_id.as_str());
    assert_eq!((&retry["peer"], &retry["attempt"]), (&"inventory".into(), &1.into()));
    assert!(retry["deadline_left_ms"].as_u64().unwrap() <= 950);
    assert!(retry["why"].as_str().unwrap().contains("status 502"), "{retry:?}");
    assert_eq!((trail[0].attempt, trail[2].attempt), (1, 2));
    assert_eq!(trail[2].endpoint.as_deref(), Some(HOST));
    assert!(trail[2].deadline_left_ms.unwrap() <= 950);
    let metrics = recorder.metrics();
    assert_eq!(metrics["mainstay_retries_total{peer=inventory}"], [1.0]);
}

#[tokio::test(start_paused = true)]
async fn law_12_the_budget_gauge_is_set_while_no_call_is_retried() {
    let recorder = Recorder::new();
    let stack = stack(config(), &Peer::always(Do::Reply(200)));
    for _ in 0..2 {
        for _ in 0..50 {
            call(&stack, get()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(recorder.metrics()["mainstay_retry_budget_tokens{peer=inventory}"], [5.0]);
}

#[tokio::test(start_paused = true)]
async fn law_12_an_opening_is_recorded_with_its_rule_and_the_observed_value() {
    let recorder = Recorder::new();
    let stack = stack(one_attempt(), &Peer::always(Do::Refuse));
    let context = RequestContext::background(Duration::from_secs(10));
    for _ in 0..6 {
        call(&stack, get().with(&context)).await.unwrap_err();
    }
    let events = recorder.at("mainstay::decision");
    let of = |action: &str| {
        events.iter().find(|e| e["layer"] == "circuit_breaker" && e["action"] == action).unwrap()
    };
    assert_eq!(of("open")["why"], "was closed: 5 failures in a row >= 5");
    assert_eq!(of("open")["endpoint"], HOST);
    assert_eq!(of("open")["correlation_id"], context.correlation_id.as_str());
    assert!(of("reject")["why"].as_str().unwrap().starts_with("open for another"));
    let metrics = recorder.metrics();
    assert_eq!(metrics["mainstay_client_rejected_total{peer=inventory,reason=breaker-rejected}"], [1.0]);
}

#[tokio::test(start_paused = true)]
async fn law_13_errors_are_typed_and_say_what_remains() {
    let peer = Peer::always(Do::Hang);
    let stack = stack(one_attempt().max_in_flight(1), &peer);
    let mut held = Box::pin(call(&stack, get()));
    begin(&mut held).await;
    let full = call(&stack, get()).await.unwrap_err();
    let CallError::BulkheadFull { peer: name, limit: 1 } = &full else { panic!("{full:?}") };
    assert_eq!((&**name, full.outcome(), full.retry_after()), ("inventory", Outcome::RejectedUnsent, None));
    drop(held);
    stack.breakers().get(HOST).unwrap().force_open();
    let open = call(&stack, get()).await.unwrap_err();
    assert!(matches!(open, CallError::BreakerRejected { state: BreakerState::ForcedOpen, .. }));
    assert_eq!(open.endpoint().unwrap().as_str(), HOST);
    let nowhere =
        call(&stack, http::Request::get("/v1/items").body(http_body_util::Full::default()).unwrap());
    assert!(matches!(nowhere.await, Err(CallError::InvalidRequest { .. })));
}

#[tokio::test(start_paused = true)]
async fn law_14_the_same_seed_makes_the_same_run() {
    let run = async |seed| {
        let peer = Peer::always(Do::Reply(500));
        let stack = stack(config().seed(Some(seed)), &peer);
        stack.budget().deposit_many(100);
        let began = Instant::now();
        call(&stack, get()).await.unwrap();
        peer.seen().iter().map(|s| s.at - began).collect::<Vec<_>>()
    };
    let first = run(1).await;
    assert_eq!(first.len(), 3);
    assert_eq!(run(1).await, first);
    assert_ne!(run(3).await, first);
}

#[tokio::test(start_paused = true)]
async fn operators_can_force_observe_and_reset_a_breaker() {
    let peer = Peer::always(Do::Reply(200));
    let stack = stack(one_attempt(), &peer);
    call(&stack, get()).await.unwrap();
    let breaker = stack.breakers().get(HOST).unwrap();
    let watch = breaker.subscribe();
    assert_eq!(*watch.borrow(), BreakerState::Closed);
    breaker.force_open();
    assert_eq!(*watch.borrow(), BreakerState::ForcedOpen);
    call(&stack, get()).await.unwrap_err();
    breaker.force_closed();
    peer.turn([Do::Refuse]);
    for _ in 0..50 {
        assert_eq!(call(&stack, get()).await.unwrap_err().outcome(), Outcome::FailedKnown);
    }
    assert_eq!(*watch.borrow(), BreakerState::ForcedClosed, "in force for any result");
    breaker.reset();
    for _ in 0..5 {
        assert_eq!(call(&stack, get()).await.unwrap_err().outcome(), Outcome::FailedKnown);
    }
    assert_eq!(*watch.borrow(), BreakerState::Open, "automatic again, with an empty window");
    assert_eq!(breaker.snapshot().trips, 1);
}
