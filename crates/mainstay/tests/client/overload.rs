//! Many clients together against one peer: while it is down, when it recovers, when it has no room, and when one of
//! its instances is dead. Arrivals are scheduled and do not wait for answers; the clock is paused.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use mainstay::client::ClientStack;
use mainstay::random::Random;
use mainstay::{Outcome, RequestContext, classify};
use tokio::time::Instant;

use crate::support::{Do, Peer, With as _, begin, call, config, get, get_from, post_with_key, stack};

/// `clients` independent clients that each make `rate` calls a second for `secs` seconds. Returns the number of
/// successful calls for each 100 ms of arrivals.
async fn offered(stacks: &[ClientStack<Peer>], rate: u64, secs: u64) -> Vec<usize> {
    let began = Instant::now();
    let mut good = vec![0; usize::try_from(secs * 10).unwrap()];
    let mut calls = FuturesUnordered::new();
    for (n, client) in stacks.iter().enumerate() {
        let offset = Duration::from_micros(1_000_000 / rate) * u32::try_from(n).unwrap()
            / u32::try_from(stacks.len()).unwrap();
        for k in 0..rate * secs {
            let due =
                offset + Duration::from_secs(1) * u32::try_from(k).unwrap() / u32::try_from(rate).unwrap();
            calls.push(async move {
                tokio::time::sleep_until(began + due).await;
                let result = call(client, get()).await;
                (due, classify::outcome(&result) == Outcome::Success)
            });
        }
    }
    while let Some((due, success)) = calls.next().await {
        good[usize::try_from(due.as_millis() / 100).unwrap()] += usize::from(success);
    }
    good
}

fn clients(count: u64, peer: &Peer) -> Vec<ClientStack<Peer>> {
    (0..count).map(|n| stack(config().seed(Some(n)), peer)).collect()
}

/// Calls that reached the peer, for each 100 ms since `began`.
fn load(peer: &Peer, began: Instant, slots: usize) -> Vec<usize> {
    let mut load = vec![0; slots];
    for seen in peer.seen() {
        if let Some(since) = seen.at.checked_duration_since(began)
            && let Some(slot) = load.get_mut(usize::try_from(since.as_millis() / 100).unwrap())
        {
            *slot += 1;
        }
    }
    load
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_down_gets_less_than_a_tenth_of_the_calls_and_a_recovered_one_is_not_overloaded() {
    let peer = Peer::always(Do::after_ms(5, Do::Reply(200)));
    let stacks = clients(40, &peer);
    let well = offered(&stacks, 20, 5).await;
    assert!(well.iter().all(|&good| good == 80), "800 a second with a healthy peer: {well:?}");

    peer.turn([Do::Refuse]);
    let down = Instant::now();
    offered(&stacks, 20, 10).await;
    let attempts: usize = load(&peer, down, 100)[10..].iter().sum();
    assert!(attempts < 720, "of 7,200 calls in the last nine seconds: {attempts}");

    peer.turn([Do::after_ms(5, Do::Reply(200))]);
    let healed = Instant::now();
    let good = offered(&stacks, 20, 6).await;
    let seen = load(&peer, healed, 60);
    let most = seen.iter().max().unwrap();
    assert!(*most <= 88, "never more than 1.1 times the offered load: {seen:?}");
    let at_95 = good.windows(5).position(|half| half.iter().sum::<usize>() >= 380).unwrap();
    assert!(at_95 + 5 <= 20, "95 % of the calls succeed within two seconds: {good:?}");
    assert!(good[40..].iter().all(|&good| good == 80), "after that, all calls succeed: {good:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_shed_everything_for_ten_seconds_is_used_in_full_again_within_two() {
    let peer = Peer::always(Do::after_ms(5, Do::Reply(200)));
    let stacks = clients(20, &peer);
    offered(&stacks, 40, 5).await;

    peer.turn([Do::ComeBackAfter(1)]);
    let shedding = Instant::now();
    offered(&stacks, 40, 10).await;
    let attempts: usize = load(&peer, shedding, 100)[20..].iter().sum();
    assert!(attempts < 960, "of 6,400 calls in the last eight seconds: {attempts}");

    peer.turn([Do::after_ms(5, Do::Reply(200))]);
    let good = offered(&stacks, 40, 5).await;
    let at_95 = good.windows(5).position(|half| half.iter().sum::<usize>() >= 380).unwrap();
    assert!(at_95 + 5 <= 20, "95 % of the calls succeed within two seconds: {good:?}");
    assert!(good[30..].iter().all(|&good| good == 80), "after that, all calls succeed: {good:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hung_while_it_shed_is_used_in_full_again_within_two_seconds() {
    let peer = Peer::always(Do::after_ms(5, Do::Reply(200)));
    let stacks = clients(40, &peer);
    offered(&stacks, 20, 5).await;

    // The peer hangs on the calls that it admits and sheds the others.
    peer.turn([Do::Hang, Do::ComeBackAfter(1), Do::ComeBackAfter(1)].into_iter().cycle().take(9_000));
    offered(&stacks, 20, 10).await;

    peer.turn([Do::after_ms(5, Do::Reply(200))]);
    let good = offered(&stacks, 20, 5).await;
    let at_95 = good.windows(5).position(|half| half.iter().sum::<usize>() >= 380).unwrap();
    assert!(at_95 + 5 <= 20, "95 % of the calls succeed within two seconds: {good:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_spike_no_call_is_held_back() {
    let peer = Peer::always(Do::after_ms(5, Do::Reply(200)));
    let stacks = clients(10, &peer);
    // One of each ten calls is admitted: the load is ten times the capacity.
    let mut tenth = vec![Do::ComeBackAfter(1); 9];
    tenth.push(Do::after_ms(5, Do::Reply(200)));
    peer.turn(tenth.into_iter().cycle().take(100_000));
    offered(&stacks, 400, 5).await;

    peer.turn([Do::after_ms(5, Do::Reply(200))]);
    let good = offered(&stacks, 40, 4).await;
    let at_95 = good.windows(5).position(|half| half.iter().sum::<usize>() >= 190).unwrap();
    assert!(at_95 + 5 <= 20, "95 % of the calls succeed within two seconds: {good:?}");
    assert!(good[30..].iter().all(|&good| good == 40), "after that, all calls succeed: {good:?}");
}

#[tokio::test(start_paused = true)]
async fn one_dead_instance_of_five_does_not_affect_the_other_four() {
    let healthy = Peer::always(Do::after_ms(5, Do::Reply(200)));
    let dead = Peer::always(Do::Hang);
    let stack = stack(config(), &Peer::by_host("10.0.0.5:80", &dead, &healthy));
    let (mut failed, mut calls) = (0, FuturesUnordered::new());
    let began = Instant::now();
    for n in 0_u32..5_000 {
        let (stack, host) = (&stack, format!("10.0.0.{}:80", n % 5 + 1));
        calls.push(async move {
            tokio::time::sleep_until(began + Duration::from_millis(4) * n).await;
            (n % 5 == 4, call(stack, get_from(&host)).await.is_ok())
        });
    }
    while let Some((of_dead, ok)) = calls.next().await {
        failed += usize::from(!of_dead && !ok);
    }
    assert_eq!(failed, 0, "failures on the healthy instances");
    let trips: u64 =
        stack.breakers().list().iter().filter(|b| b.name != "10.0.0.5:80").map(|b| b.trips).sum();
    assert_eq!(trips, 0);
    assert!(dead.calls() < 150, "the dead instance gets few calls: {} of 1,000", dead.calls());
}

/// For any reply of the peer and any time at which callers leave, every permit is returned.
#[tokio::test(start_paused = true)]
async fn law_07_no_permit_leaks_for_any_reply_or_caller() {
    let random = Random::seeded(11);
    let acts = || {
        let pick = random.next_u64();
        match pick % 8 {
            0 => Do::Hang,
            1 => Do::Lose,
            2 => Do::Refuse,
            3 => Do::ComeBackAfter(1),
            4 => Do::Reply(500),
            _ => Do::after_ms(pick % 700, Do::Reply(200)),
        }
    };
    let peer = Peer::script((0..4_000).map(|_| acts()));
    let stack = stack(config().max_in_flight(40).seed(Some(3)), &peer);
    let mut calls = FuturesUnordered::new();
    for n in 0..3_000_u64 {
        let (stack, random) = (&stack, &random);
        calls.push(async move {
            tokio::time::sleep(Duration::from_millis(n * 10)).await;
            let context = RequestContext::background(Duration::from_millis(50 + random.next_u64() % 3_000));
            let request = if n % 2 == 0 { get() } else { post_with_key() };
            let leaves_after = Duration::from_millis(random.next_u64() % 3_000);
            let _left = tokio::time::timeout(leaves_after, call(stack, request.with(&context))).await;
        });
    }
    while calls.next().await.is_some() {}
    assert_eq!((stack.in_flight(), peer.inside()), (0, 0));
    // The stack works as a new one does once the peer is healthy.
    peer.turn([Do::Reply(200)]);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let _probe = call(&stack, get()).await;
    }
    let mut whole: Vec<_> = (0..40).map(|_| Box::pin(call(&stack, get()))).collect();
    peer.turn([Do::after_ms(10, Do::Reply(200))]);
    for call in &mut whole {
        begin(call).await;
    }
    assert_eq!(stack.in_flight(), 40, "every permit can be taken");
    for call in whole {
        assert!(call.await.is_ok());
    }
}
