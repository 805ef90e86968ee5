//! Each layer used alone, over a bare transport: each decision is one event, one entry of the trail and one metric.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use mainstay::attempt_timeout::AttemptTimeoutLayer;
use mainstay::breaker::{BreakerConfig, BreakerLayer, Breakers};
use mainstay::budget::{BudgetConfig, RetryBudget};
use mainstay::bulkhead::BulkheadLayer;
use mainstay::client::{AttemptLayer, ClientRequest, StampLayer};
use mainstay::coalesce::CoalesceLayer;
use mainstay::fallback::FallbackLayer;
use mainstay::hedge::{HedgeConfig, HedgeLayer};
use mainstay::random::Random;
use mainstay::retry::{RetryConfig, RetryLayer};
use mainstay::throttle::{ThrottleConfig, ThrottleLayer};
use mainstay::total_deadline::TotalDeadlineLayer;
use mainstay::{CallError, Endpoint, RequestContext};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt as _};

use crate::recorder::Recorder;
use crate::support::{DepositMany as _, Do, HOST, Peer, With as _, begin, get};

/// A context with one second and its own trail.
fn context() -> RequestContext {
    RequestContext::background(Duration::from_secs(1))
}

/// Sends one request through `layer` alone.
async fn ask<L>(layer: &L, peer: &Peer, context: &RequestContext)
where
    L: Layer<Peer>,
    L::Service: Service<ClientRequest>,
{
    drop(layer.layer(peer.clone()).oneshot(get().with(context)).await);
}

/// Asserts that `layer` has recorded `action` for `context` in one event with its reason, and counted it in `metric`.
#[track_caller]
fn assert_recorded(recorder: &Recorder, context: &RequestContext, layer: &str, action: &str, metric: &str) {
    let kept: Vec<_> = context.trail.snapshot();
    let kept: Vec<_> = kept.iter().filter(|d| d.layer == layer && d.action == action).collect();
    assert_eq!(kept.len(), 1, "{layer} {action}: {:?}", context.trail.snapshot());
    assert!(!kept[0].why.is_empty() && kept[0].endpoint.is_some(), "{kept:?}");
    let events = recorder.at("mainstay::decision");
    let of_mine = |e: &&crate::recorder::Fields| {
        e["layer"] == layer
            && e["action"] == action
            && e.get("correlation_id") == Some(&context.correlation_id.as_str().into())
    };
    let said: Vec<_> = events.iter().filter(of_mine).collect();
    assert_eq!(said.len(), 1, "{layer} {action}: {events:?}");
    assert_eq!(said[0]["why"], *kept[0].why);
    assert_eq!(said[0]["peer"], "inventory");
    let metrics = recorder.metrics();
    assert_eq!(metrics.get(metric), Some(&vec![1.0]), "{metric}: {metrics:?}");
}

#[tokio::test(start_paused = true)]
async fn the_total_deadline_refuses_and_cuts_off() {
    let (recorder, peer) = (Recorder::new(), Peer::always(Do::Hang));
    let layer = TotalDeadlineLayer::new("inventory", Duration::from_millis(300), Duration::from_millis(50));
    let late = RequestContext::background(Duration::from_millis(50));
    ask(&layer, &peer, &late).await;
    assert_eq!(peer.calls(), 0);
    assert_recorded(
        &recorder,
        &late,
        "deadline",
        "reject",
        "mainstay_client_rejected_total{peer=inventory,reason=deadline-too-near}",
    );
    let slow = context();
    ask(&layer, &peer, &slow).await;
    assert_recorded(
        &recorder,
        &slow,
        "deadline",
        "cut_off",
        "mainstay_client_timeouts_total{peer=inventory,limit=total}",
    );
    assert_eq!(slow.trail.snapshot()[0].why, "no reply within 300 ms");
}

#[tokio::test(start_paused = true)]
async fn the_attempt_timeout_refuses_and_cuts_off_and_reports_its_limit() {
    let (recorder, peer) = (Recorder::new(), Peer::always(Do::Hang));
    let layer = AttemptTimeoutLayer::new("inventory", Duration::from_millis(300)).unwrap();
    let late = RequestContext::background(Duration::ZERO);
    ask(&layer, &peer, &late).await;
    assert_eq!(peer.calls(), 0);
    let rejected = "mainstay_client_rejected_total{peer=inventory,reason=deadline-too-near}";
    assert_recorded(&recorder, &late, "attempt_timeout", "reject", rejected);
    // The time ends between the call and its first poll: the attempt is not sent.
    let call = layer.layer(peer.clone()).call(get().within_ms(100));
    tokio::time::advance(Duration::from_millis(101)).await;
    assert!(matches!(call.await, Err(CallError::DeadlineTooNear { .. })));
    assert_eq!((peer.calls(), &recorder.metrics()[rejected]), (0, &vec![1.0]));
    for (left, why) in [
        (1_000, "no reply within 300 ms, the attempt timeout"),
        (200, "no reply within 200 ms, the time left to the deadline"),
    ] {
        let slow = RequestContext::background(Duration::from_millis(left));
        ask(&layer, &peer, &slow).await;
        let counted = "mainstay_client_timeouts_total{peer=inventory,limit=attempt}";
        assert_recorded(&recorder, &slow, "attempt_timeout", "cut_off", counted);
        assert_eq!(slow.trail.snapshot()[0].why, why);
    }
}

#[tokio::test(start_paused = true)]
async fn the_stamp_does_not_send_an_attempt_without_time() {
    let (recorder, peer) = (Recorder::new(), Peer::always(Do::Reply(200)));
    let late = RequestContext::background(Duration::from_micros(900));
    let layer = StampLayer::new("inventory");
    let refused = layer.layer(peer.clone()).oneshot(get().with(&late)).await;
    assert!(matches!(refused, Err(CallError::DeadlineTooNear { .. })), "{refused:?}");
    assert_eq!(peer.calls(), 0);
    let rejected = "mainstay_client_rejected_total{peer=inventory,reason=deadline-too-near}";
    assert_recorded(&recorder, &late, "stamp", "reject", rejected);
    ask(&layer, &peer, &RequestContext::background(Duration::from_millis(1))).await;
    assert_eq!(peer.seen()[0].deadline_ms(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_retry_repeats_and_gives_up() {
    let (recorder, peer) = (Recorder::new(), Peer::always(Do::Refuse));
    let budget = RetryBudget::new(&BudgetConfig::default()).unwrap();
    let retry = RetryConfig::default().max_attempts(2);
    let context = context();
    ask(&RetryLayer::new("inventory", retry, budget, Random::seeded(1)).unwrap(), &peer, &context).await;
    assert_eq!(peer.calls(), 2);
    assert_recorded(&recorder, &context, "retry", "retry", "mainstay_retries_total{peer=inventory}");
    let again = RequestContext { attempt: 2, ..context.clone() };
    let budget = RetryBudget::new(&BudgetConfig::default()).unwrap();
    let layer = RetryLayer::new("inventory", RetryConfig::default(), budget, Random::seeded(1)).unwrap();
    let ours = RequestContext { trail: mainstay::DecisionTrail::new(), ..again };
    recorder.metrics();
    ask(&layer, &peer, &ours).await;
    let given_up = "mainstay_retry_given_up_total{peer=inventory,reason=caller-retries}";
    assert_eq!(ours.trail.snapshot()[0].action, "give_up");
    assert_eq!(recorder.metrics()[given_up], [1.0]);
}

#[tokio::test(start_paused = true)]
async fn the_hedge_sends_a_second_request_or_records_why_not() {
    let (recorder, peer) = (Recorder::new(), Peer::script([Do::Reply(200)]));
    let budget = RetryBudget::new(&BudgetConfig::default().floor_per_second(0)).unwrap();
    let config = HedgeConfig::default().min_samples(1);
    let layer = HedgeLayer::new("inventory", config, budget.clone()).unwrap();
    ask(&layer, &peer, &context()).await;
    peer.turn([Do::after_ms(500, Do::Reply(200))]);
    let poor = context();
    ask(&layer, &peer, &poor).await;
    assert_recorded(&recorder, &poor, "hedge", "give_up", "mainstay_hedges_denied_total{peer=inventory}");
    budget.deposit_many(100);
    peer.turn([Do::Hang, Do::Reply(200)]);
    let rich = context();
    ask(&layer, &peer, &rich).await;
    assert_recorded(&recorder, &rich, "hedge", "hedge", "mainstay_hedges_total{peer=inventory}");
}

#[tokio::test(start_paused = true)]
async fn the_throttle_holds_back() {
    let (recorder, peer) = (Recorder::new(), Peer::always(Do::Reply(429)));
    let config = ThrottleConfig::default().min_calls(1);
    let layer = ThrottleLayer::new("inventory", config, Random::seeded(1)).unwrap();
    let mut held_back = context();
    for _ in 0..100 {
        held_back = context();
        let before = peer.calls();
        ask(&layer, &peer, &held_back).await;
        if peer.calls() == before {
            break;
        }
    }
    assert_recorded(
        &recorder,
        &held_back,
        "throttle",
        "reject",
        "mainstay_client_rejected_total{peer=inventory,reason=held-back}",
    );
}

#[tokio::test(start_paused = true)]
async fn the_bulkhead_refuses() {
    let (recorder, peer) = (Recorder::new(), Peer::always(Do::Hang));
    let layer = BulkheadLayer::new("inventory", 1).unwrap();
    let mut held = Box::pin(layer.layer(peer.clone()).oneshot(get()));
    begin(&mut held).await;
    let refused = context();
    ask(&layer, &peer, &refused).await;
    let full = "mainstay_client_rejected_total{peer=inventory,reason=bulkhead-full}";
    assert_recorded(&recorder, &refused, "bulkhead", "reject", full);
}

#[tokio::test(start_paused = true)]
async fn the_breaker_opens_and_refuses() {
    let (recorder, peer) = (Recorder::new(), Peer::always(Do::Refuse));
    let breakers = Breakers::new("inventory", BreakerConfig::default(), Random::seeded(1)).unwrap();
    let layer = BreakerLayer::new(breakers);
    for _ in 0..4 {
        ask(&layer, &peer, &context()).await;
    }
    let last = context();
    ask(&layer, &peer, &last).await;
    let opened = format!("mainstay_breaker_transitions_total{{peer=inventory,endpoint={HOST},to=open}}");
    assert_recorded(&recorder, &last, "circuit_breaker", "open", &opened);
    let refused = context();
    ask(&layer, &peer, &refused).await;
    let rejected = "mainstay_client_rejected_total{peer=inventory,reason=breaker-rejected}";
    assert_recorded(&recorder, &refused, "circuit_breaker", "reject", rejected);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_recorded_with_its_outcome() {
    let (recorder, peer) = (Recorder::new(), Peer::always(Do::Lose));
    let context = context();
    ask(&AttemptLayer::new("inventory"), &peer, &context).await;
    let counted = "mainstay_client_attempts_total{peer=inventory,outcome=unknown}";
    assert_recorded(&recorder, &context, "attempt", "unknown", counted);
}

#[tokio::test(start_paused = true)]
async fn a_joined_read_and_a_substitute_are_recorded() {
    let (recorder, peer) = (Recorder::new(), Peer::always(Do::after_ms(10, Do::Reply(503))));
    let layer = CoalesceLayer::new("inventory");
    let (first, joined) = (context(), context());
    tokio::join!(ask(&layer, &peer, &first), ask(&layer, &peer, &joined));
    assert_eq!(peer.calls(), 1);
    assert_recorded(
        &recorder,
        &joined,
        "coalesce",
        "join",
        "mainstay_client_coalesced_total{peer=inventory}",
    );
    let layer = FallbackLayer::new("inventory", |_| Some(Response::new(Bytes::new())));
    let substituted = context();
    ask(&layer, &peer, &substituted).await;
    let counted = "mainstay_client_fallbacks_total{peer=inventory,outcome=unknown}";
    assert_recorded(&recorder, &substituted, "fallback", "substitute", counted);
}

#[cfg(feature = "faults")]
#[tokio::test(start_paused = true)]
async fn an_injected_fault_is_recorded() {
    use mainstay::fault::{ClientFaultLayer, Fault, FaultSpec, Faults};

    let (recorder, peer) = (Recorder::new(), Peer::always(Do::Reply(200)));
    let faults = Faults::new(Random::seeded(1));
    let layer = ClientFaultLayer::new(&faults, "inventory");
    faults.put("inventory", FaultSpec::always(Fault::Garbage)).unwrap();
    let context = context();
    ask(&layer, &peer, &context).await;
    assert_recorded(
        &recorder,
        &context,
        "fault",
        "garbage",
        "mainstay_faults_injected_total{point=inventory,fault=garbage}",
    );
}

/// A permit from `try_acquire` records the same decisions as a call through the layer.
#[tokio::test(start_paused = true)]
async fn a_permit_from_try_acquire_records_the_same_decisions() {
    let recorder = Recorder::new();
    let breakers = Breakers::new("inventory", BreakerConfig::default(), Random::seeded(1)).unwrap();
    let breaker = breakers.endpoint(&Endpoint::parse(HOST).unwrap());
    breaker.force_open();
    let context = context();
    breaker.try_acquire(Some(&context)).unwrap_err();
    let rejected = "mainstay_client_rejected_total{peer=inventory,reason=breaker-rejected}";
    assert_recorded(&recorder, &context, "circuit_breaker", "reject", rejected);
    assert!(context.deadline.instant() > Instant::now());
}
