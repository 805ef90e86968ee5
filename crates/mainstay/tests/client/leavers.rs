//! Callers that leave before the answer, by dropping the call or by a short deadline, show nothing of the endpoint.

use std::time::Duration;

use mainstay::Outcome;
use mainstay::breaker::{BreakerHandle, BreakerState};
use mainstay::client::ClientStack;
use mainstay::random::Random;
use mainstay::retry::RetryConfig;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Do, HOST, Peer, With as _, begin, call, config, get, stack};

const SOON: Duration = Duration::from_millis(5);

/// A stack whose breaker has opened, and would admit a probe now.
async fn half_open(peer: &Peer) -> (ClientStack<Peer>, BreakerHandle) {
    let retry = RetryConfig::default().max_attempts(1);
    let stack = stack(config().retry(retry), peer);
    peer.turn([Do::Refuse]);
    for _ in 0..5 {
        call(&stack, get()).await.unwrap_err();
    }
    let breaker = stack.breakers().get(HOST).unwrap();
    sleep(Duration::from_millis(breaker.snapshot().open_for_ms)).await;
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    (stack, breaker)
}

/// A caller that leaves after [`SOON`].
async fn leave(stack: ClientStack<Peer>, by_deadline: bool) {
    if by_deadline {
        // The stack keeps 50 ms of a deadline for itself.
        let _ = call(&stack, get().within_ms(55)).await;
    } else {
        let _ = timeout(SOON, call(&stack, get())).await;
    }
}

/// The time for which an endpoint that answers in 20 ms stays unavailable, while `percent` of 100 callers a second
/// leave early.
async fn cut_off(percent: u32, by_deadline: bool, seed: u64) -> Duration {
    let peer = Peer::always(Do::Refuse);
    let retry = RetryConfig::default().max_attempts(1);
    let stack = stack(config().retry(retry), &peer);
    for _ in 0..5 {
        call(&stack, get()).await.unwrap_err();
    }
    let breaker = stack.breakers().get(HOST).unwrap();
    peer.turn([Do::after_ms(20, Do::Reply(200))]);
    let (began, random) = (Instant::now(), Random::seeded(seed));
    for n in 0_u64.. {
        let leaves =
            if percent == 33 { n.is_multiple_of(3) } else { random.chance(f64::from(percent) / 100.0) };
        let stack = stack.clone();
        tokio::spawn(async move {
            if leaves {
                leave(stack, by_deadline).await;
            } else {
                let _ = call(&stack, get()).await;
            }
        });
        sleep(Duration::from_millis(10)).await;
        if breaker.state() == BreakerState::Closed || began.elapsed() > Duration::from_mins(1) {
            break;
        }
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn law_06_a_healthy_endpoint_is_readmitted_within_two_seconds_while_callers_leave() {
    for percent in [33, 50, 70] {
        for by_deadline in [false, true] {
            for seed in 0..20 {
                let took = cut_off(percent, by_deadline, seed).await;
                assert!(took <= Duration::from_secs(2), "{percent} %, by deadline {by_deadline}: {took:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn law_06_the_probe_of_a_caller_that_left_goes_to_the_next_caller_at_once() {
    let peer = Peer::always(Do::Refuse);
    let (stack, breaker) = half_open(&peer).await;
    let trips = breaker.snapshot().trips;
    peer.turn([Do::Hang]);
    for by_deadline in [false, true] {
        let before = peer.calls();
        for _ in 0..10 {
            leave(stack.clone(), by_deadline).await;
        }
        assert_eq!(peer.calls() - before, 10);
        assert_eq!((breaker.state(), breaker.snapshot().trips), (BreakerState::HalfOpen, trips));
    }
    let mut probes: Vec<_> = (0..3).map(|_| Box::pin(call(&stack, get()))).collect();
    for probe in &mut probes {
        begin(probe).await;
    }
    assert_eq!(
        call(&stack, get()).await.unwrap_err().outcome(),
        Outcome::RejectedUnsent,
        "three probes at the same time"
    );
    drop(probes);
    peer.turn([Do::Reply(200)]);
    for _ in 0..3 {
        call(&stack, get()).await.unwrap();
    }
    assert_eq!(breaker.state(), BreakerState::Ramping);
}

#[tokio::test(start_paused = true)]
async fn law_06_an_endpoint_that_hangs_gets_few_probes_while_all_callers_leave() {
    for by_deadline in [false, true] {
        let peer = Peer::always(Do::Refuse);
        let (stack, breaker) = half_open(&peer).await;
        let trips = breaker.snapshot().trips;
        peer.turn([Do::Hang]);
        let (began, before) = (Instant::now(), peer.calls());
        while began.elapsed() < Duration::from_secs(20) {
            for _ in 0..10 {
                tokio::spawn(leave(stack.clone(), by_deadline));
            }
            sleep(Duration::from_millis(10)).await;
        }
        let (sent, periods) = (peer.calls() - before, breaker.snapshot().trips - trips);
        assert!(periods >= 7, "half-open periods must end: {periods}");
        assert!(sent as u64 <= (periods + 1) * 60, "{sent} of 20,000 in {periods} periods");
        assert_eq!(peer.most(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn law_06_a_probe_without_an_answer_in_its_timeout_is_a_failure_also_if_its_caller_leaves() {
    for by_deadline in [false, true] {
        let peer = Peer::always(Do::Refuse);
        let (stack, breaker) = half_open(&peer).await;
        peer.turn([Do::Hang]);
        let waits = Duration::from_millis(500);
        if by_deadline {
            let _ = call(&stack, get().within_ms(550)).await;
        } else {
            let mut probe = Box::pin(call(&stack, get()));
            begin(&mut probe).await;
            tokio::time::advance(waits).await;
            drop(probe);
        }
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_throttled_opens_the_breaker_again() {
    let peer = Peer::always(Do::Refuse);
    let (stack, breaker) = half_open(&peer).await;
    peer.turn([Do::ComeBackAfter(1)]);
    let _ = call(&stack, get()).await;
    assert_eq!(breaker.state(), BreakerState::Open, "an endpoint without room is not ready for all traffic");
}

#[tokio::test(start_paused = true)]
async fn repeats_take_one_half_open_probe_and_leave_the_others_to_first_tries() {
    let peer = Peer::always(Do::Refuse);
    let (stack, breaker) = half_open(&peer).await;
    peer.turn([Do::Hang]);
    let repeat = || {
        let mut request = get();
        request.extensions_mut().insert(mainstay::RepeatedWork);
        request
    };
    let mut first = Box::pin(call(&stack, repeat()));
    begin(&mut first).await;
    assert_eq!(call(&stack, repeat()).await.unwrap_err().outcome(), Outcome::RejectedUnsent);
    peer.turn([Do::Reply(200)]);
    call(&stack, get()).await.unwrap();
    call(&stack, get()).await.unwrap();
    drop(first);
    call(&stack, repeat()).await.unwrap();
    assert_eq!(breaker.state(), BreakerState::Ramping);
}
