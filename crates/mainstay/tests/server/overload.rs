//! The whole stack under overload, open loop and in virtual time. Requests arrive at their scheduled times, whatever
//! the results of earlier ones, and a reply counts only when it arrives within its caller's deadline.
//!
//! The service behind the stack works on 20 requests at the same time, each for 20 ms, and queues the others, as a
//! database pool does. Its capacity is a thousand requests a second.

use std::sync::Arc;
use std::time::Duration;

use mainstay::limit::Bounds;
use mainstay::server::{LimitConfig, ServerConfig, stack};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower::{Layer as _, ServiceExt as _};

use crate::support::{Inner, Stacked, body, ok, request, service};

const AT_ONCE: usize = 20;
const WORK: Duration = Duration::from_millis(20);
/// Requests per millisecond of virtual time.
const CAPACITY: f64 = 1.0;
/// Deadline of the callers, in milliseconds.
const PATIENCE: &str = "200";

/// The service. Its first-come-first-served queue is tokio's semaphore.
fn backend() -> Inner {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    service(move |_| {
        let room = Arc::clone(&room);
        async move {
            let _place = room.acquire().await.unwrap();
            tokio::time::sleep(WORK).await;
            ok()
        }
    })
}

fn protected(limit: LimitConfig) -> Stacked {
    stack(ServerConfig::default().limit(limit)).unwrap().layer(backend())
}

/// One request: its scheduled time, its duration, and whether it was answered in time.
#[derive(Debug, Clone, Copy)]
struct Seen {
    due_ms: u64,
    took: Duration,
    good: bool,
}

/// Sends `rate` requests of `priority` in each millisecond for `ms` milliseconds, each at its scheduled time.
async fn offer(stacked: &Stacked, priority: &'static str, rate: f64, ms: u64) -> Vec<Seen> {
    let start = Instant::now();
    let (mut requests, mut due) = (Vec::new(), 0.0);
    for due_ms in 0..ms {
        tokio::time::sleep_until(start + Duration::from_millis(due_ms)).await;
        due += rate;
        while due >= 1.0 {
            due -= 1.0;
            let call =
                stacked.clone().oneshot(request(&[("x-priority", priority), ("x-deadline-ms", PATIENCE)]));
            requests.push(tokio::spawn(async move {
                let began = Instant::now();
                let reply = call.await.unwrap();
                let good = reply.status() == 200;
                body(reply).await;
                Seen { due_ms, took: began.elapsed(), good }
            }));
        }
    }
    let mut seen = Vec::new();
    for request in requests {
        seen.push(request.await.unwrap());
    }
    seen
}

/// Good replies per millisecond among the requests scheduled between `from` and `to`, as a share of the capacity.
fn goodput(seen: &[Seen], from: u64, to: u64) -> f64 {
    let good = seen.iter().filter(|s| s.good && (from..to).contains(&s.due_ms)).count();
    f64::from(u32::try_from(good).unwrap()) / f64::from(u32::try_from(to - from).unwrap()) / CAPACITY
}

/// The time within which 99 of 100 good replies arrived.
fn p99(seen: &[Seen]) -> Duration {
    let mut took: Vec<_> = seen.iter().filter(|s| s.good).map(|s| s.took).collect();
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[tokio::test(start_paused = true)]
async fn goodput_at_ten_times_capacity_stays_at_its_peak_and_admitted_requests_are_answered_quickly() {
    let seen = offer(&protected(LimitConfig::Fixed(AT_ONCE)), "default", 10.0 * CAPACITY, 1_200).await;
    let (share, p99) = (goodput(&seen, 300, 1_100), p99(&seen));
    assert!(share > 0.95, "{share} of capacity");
    assert!(p99 <= 2 * WORK, "{p99:?}");
}

/// An adaptive limit does not know the capacity: it settles slightly above it, and its probes cost some throughput,
/// most of it in the first seconds.
#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_keeps_nearly_all_of_the_goodput_without_knowing_the_capacity() {
    let limit = LimitConfig::Gradient(Bounds::default());
    let seen = offer(&protected(limit), "default", 10.0 * CAPACITY, 3_000).await;
    let (share, p99) = (goodput(&seen, 500, 2_900), p99(&seen));
    assert!(share > 0.9, "{share} of capacity");
    assert!(p99 <= 4 * WORK, "{p99:?}");
}

/// Control for the test above: without a limit the goodput is lost.
#[tokio::test(start_paused = true)]
async fn goodput_at_ten_times_capacity_without_a_limit_is_nearly_zero() {
    let seen = offer(&protected(LimitConfig::Fixed(1_000_000)), "default", 10.0 * CAPACITY, 900).await;
    let share = goodput(&seen, 300, 800);
    assert!(share < 0.1, "{share} of capacity");
}

#[tokio::test(start_paused = true)]
async fn a_step_to_ten_times_the_load_settles_within_a_quarter_of_a_second() {
    let stacked = protected(LimitConfig::Gradient(Bounds::default()));
    let calm = offer(&stacked, "default", 0.5 * CAPACITY, 1_000).await;
    assert!(calm.iter().all(|s| s.good), "nothing is refused below capacity");
    let step = offer(&stacked, "default", 10.0 * CAPACITY, 900).await;
    let first = goodput(&step, 0, 250);
    assert!(first > 0.95, "{first} of capacity in the first quarter second");
    let after = goodput(&step, 250, 800);
    assert!(after > 0.9, "{after} of capacity after it");
}

#[tokio::test(start_paused = true)]
async fn critical_requests_hardly_notice_twelve_times_as_many_sheddable_ones() {
    for limit in [LimitConfig::Fixed(AT_ONCE), LimitConfig::Gradient(Bounds::default())] {
        let name = format!("{limit:?}");
        let stacked = protected(limit);
        let (critical, sheddable) = tokio::join!(
            offer(&stacked, "critical", 0.3 * CAPACITY, 1_200),
            offer(&stacked, "sheddable", 12.0 * CAPACITY, 1_200),
        );
        let good = critical.iter().filter(|s| s.good).count();
        assert!(good * 1_000 >= critical.len() * 999, "{name}: {good} of {}", critical.len());
        assert!(p99(&critical) <= 2 * WORK, "{name}: {:?}", p99(&critical));
        let rest = goodput(&sheddable, 300, 1_100);
        assert!(rest > 0.4, "{name}: sheddable work uses the remaining capacity: {rest}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_overload_the_next_requests_are_served() {
    let stacked = protected(LimitConfig::Gradient(Bounds::default()));
    offer(&stacked, "default", 10.0 * CAPACITY, 1_000).await;
    let calm = offer(&stacked, "default", 0.5 * CAPACITY, 500).await;
    assert!(calm.iter().all(|s| s.good && s.took < 2 * WORK));
}
