//! The adaptive algorithms against a simulated service with a known capacity, in virtual time.
//!
//! The service has `servers` workers and serves its queue in order of arrival. It answers up to `servers` requests at
//! the same time in its service time; more requests only wait. Its knee is therefore `servers`.

// Counts and microseconds here are far below 2^52.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

const MS: u64 = 1_000;

/// A simulated service. Its times are microseconds of virtual time.
struct Service {
    service_us: u64,
    /// Time after which every request fails with a timeout, if the service hangs.
    hang_us: Option<u64>,
}

struct Run<A> {
    algorithm: A,
    service: Service,
    start: Instant,
    now: u64,
    /// Times at which the workers are free.
    workers: BinaryHeap<Reverse<u64>>,
    /// End and beginning of each request in flight, and whether it timed out.
    in_flight: BinaryHeap<Reverse<(u64, u64, bool)>>,
    next_arrival: u64,
    arrival_us: u64,
    /// Bursts: requests arrive only in the first part of each period, both in microseconds.
    bursts: Option<(u64, u64)>,
    answered: u64,
    seed: u64,
}

impl<A: Algorithm> Run<A> {
    fn new(algorithm: A, servers: usize, service_us: u64, arrival_us: u64) -> Self {
        Self {
            algorithm,
            service: Service { service_us, hang_us: None },
            start: Instant::now(),
            now: 0,
            workers: (0..servers).map(|_| Reverse(0)).collect(),
            in_flight: BinaryHeap::new(),
            next_arrival: 0,
            arrival_us,
            bursts: None,
            answered: 0,
            seed: 42,
        }
    }

    /// A repeatable random number, exponentially distributed around `mean`.
    fn random(&mut self, mean: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = (self.seed >> 11) as f64 / (1_u64 << 53) as f64;
        (-(1.0 - uniform).ln() * mean as f64) as u64
    }

    fn set_servers(&mut self, servers: usize) {
        self.workers = (0..servers).map(|_| Reverse(self.now)).collect();
    }

    /// Runs for `ms` of virtual time; returns the limits at each tenth of a second.
    fn run(&mut self, ms: u64) -> Vec<usize> {
        let end = self.now + ms * MS;
        let mut limits = Vec::new();
        let mut next_look = self.now;
        while self.now < end {
            let next_end = self.in_flight.peek().map_or(u64::MAX, |r| r.0.0);
            self.now = next_end.min(self.next_arrival).min(next_look);
            if self.now == next_look {
                limits.push(self.algorithm.limit());
                next_look += 100 * MS;
            } else if self.now == next_end {
                let Reverse((_, began, hung)) = self.in_flight.pop().unwrap();
                let verdict = if hung { Verdict::Dropped } else { Verdict::Answered };
                self.answered += u64::from(!hung);
                self.algorithm.observe(Sample {
                    latency: Duration::from_micros(self.now - began),
                    in_flight: self.in_flight.len() + 1,
                    verdict,
                    at: self.start + Duration::from_micros(self.now),
                });
            } else {
                self.next_arrival = self.now + self.random(self.arrival_us).max(1);
                if let Some((of, every)) = self.bursts
                    && self.next_arrival % every > of
                {
                    self.next_arrival = (self.next_arrival / every + 1) * every;
                }
                if self.in_flight.len() < self.algorithm.limit() {
                    self.begin();
                }
            }
        }
        limits
    }

    fn begin(&mut self) {
        if let Some(hang) = self.service.hang_us {
            self.in_flight.push(Reverse((self.now + hang, self.now, true)));
            return;
        }
        let work = self.random(self.service.service_us).max(1);
        let Reverse(free) = self.workers.pop().unwrap();
        let done = free.max(self.now) + work;
        self.workers.push(Reverse(done));
        self.in_flight.push(Reverse((done, self.now, false)));
    }
}

fn mean(limits: &[usize]) -> f64 {
    limits.iter().sum::<usize>() as f64 / limits.len() as f64
}

/// A run with arrivals at `times` the capacity of `servers` workers.
fn overloaded<A: Algorithm>(algorithm: A, servers: usize, service_us: u64, times: u64) -> Run<A> {
    Run::new(algorithm, servers, service_us, service_us / (servers as u64 * times))
}

#[test]
fn the_limit_settles_near_the_knee_and_costs_little_goodput() {
    for servers in [8, 20, 60] {
        for service_us in [5 * MS, 20 * MS, 50 * MS] {
            let mut run = overloaded(Gradient::default(), servers, service_us, 3);
            run.run(20_000);
            let before = run.answered;
            let limits = run.run(60_000);
            let goodput = (run.answered - before) as f64 * service_us as f64 / 60e6 / servers as f64;
            let knees = mean(&limits) / servers as f64;
            assert!((0.9..2.0).contains(&knees), "{servers} servers, {service_us} us: {knees} knees");
            assert!(goodput > 0.87, "{servers} servers, {service_us} us: {goodput} of capacity");
        }
    }
}

/// In the gradient limiters of Netflix and Envoy the baseline follows the observed latency, so the limit rises for as
/// long as the overload lasts.
#[test]
fn the_limit_does_not_rise_without_end_in_half_an_hour_of_saturation() {
    let mut run = overloaded(Gradient::default(), 20, 50 * MS, 10);
    run.run(60_000);
    for minute in 1..30 {
        let limits = run.run(60_000);
        assert!((16.0..40.0).contains(&mean(&limits)), "minute {minute}: {}", mean(&limits));
    }
}

#[test]
fn the_limit_follows_the_capacity_down_and_up() {
    let mut run = overloaded(Gradient::default(), 60, 20 * MS, 3);
    run.run(30_000);
    assert!(mean(&run.run(10_000)) > 50.0);
    run.set_servers(20);
    run.run(15_000);
    let fallen = mean(&run.run(20_000));
    assert!((16.0..40.0).contains(&fallen), "{fallen}");
    run.set_servers(60);
    run.run(15_000);
    let risen = mean(&run.run(20_000));
    assert!(risen > 50.0, "{risen}");
}

/// Bursts leave long idle periods between their samples. If those counted, the throughput would seem unchanged
/// however far the limit was cut.
#[test]
fn bursts_with_idle_time_between_them_do_not_lower_the_limit() {
    for (of, every) in [(300, 5_000), (600, 5_000), (1_000, 5_000), (300, 800)] {
        let bounds = Bounds { start: 60, ..Bounds::default() };
        // More workers than the limit may reach: no request waits for another.
        let mut run = Run::new(Gradient::new(bounds), 1_000, 20 * MS, 20 * MS / 150);
        run.bursts = Some((of * MS, every * MS));
        run.run(60_000);
        let limits = run.run(240_000);
        assert!(mean(&limits) > 60.0, "{of} ms in {every}: {}", mean(&limits));
    }
}

/// A baseline that does not follow the observed latency holds the limit at its floor when a dependency has become
/// slower for good, and loses four fifths of the throughput.
#[test]
fn a_service_that_became_slower_for_good_keeps_its_concurrency() {
    let mut run = overloaded(Gradient::default(), 20, 20 * MS, 9);
    run.run(30_000);
    run.service.service_us *= 3;
    run.run(15_000);
    let before = run.answered;
    let limits = run.run(30_000);
    let goodput = (run.answered - before) as f64 * 60_000.0 / 30e6 / 20.0;
    assert!((16.0..40.0).contains(&mean(&limits)), "{}", mean(&limits));
    assert!(goodput > 0.85, "{goodput}");
}

fn timeouts_lower_the_limit_to_its_floor_and_answers_raise_it<A: Algorithm>(algorithm: A) {
    let mut run = overloaded(algorithm, 20, 20 * MS, 3);
    run.run(5_000);
    run.service.hang_us = Some(300 * MS);
    run.run(15_000);
    assert_eq!(run.algorithm.limit(), Bounds::default().min);
    run.service.hang_us = None;
    run.run(10_000);
    assert!(mean(&run.run(5_000)) > 15.0, "{:?}", run.algorithm);
}

#[test]
fn timeouts_shrink_the_limit_to_its_floor_and_not_below() {
    timeouts_lower_the_limit_to_its_floor_and_answers_raise_it(Gradient::default());
    timeouts_lower_the_limit_to_its_floor_and_answers_raise_it(Aimd::default());
}

/// tower-resilience's AIMD raised its limit from 1 to 100 on sequential traffic.
#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    fn check<A: Algorithm>(algorithm: A) {
        let start = algorithm.limit();
        let mut run = Run::new(algorithm, 100, 5 * MS, MS);
        let limits = run.run(60_000);
        assert_eq!(limits.iter().max(), Some(&start), "five at once on average, under a limit of {start}");
    }
    check(Gradient::default());
    check(Aimd::default());
}

#[test]
fn latency_above_the_ceiling_shrinks_the_limit_even_when_it_is_usual() {
    fn check<A: Algorithm>(algorithm: A) {
        let mut run = overloaded(algorithm, 1_000, 2_500 * MS, 1);
        run.run(60_000);
        assert_eq!(run.algorithm.limit(), Bounds::default().min);
    }
    check(Gradient::default());
    check(Aimd::default());
}

/// A hundred dropped timeouts at the same moment left tower-resilience's limit unchanged. Counting each of them would
/// have lowered it to nothing.
#[test]
fn a_burst_of_timeouts_is_one_step_down() {
    fn check<A: Algorithm>(mut algorithm: A) {
        let (start, now) = (algorithm.limit(), Instant::now());
        let sample = |verdict, ms| Sample {
            latency: Duration::from_millis(10),
            in_flight: start,
            verdict,
            at: now + Duration::from_millis(ms),
        };
        for _ in 0..100 {
            algorithm.observe(sample(Verdict::Dropped, 0));
        }
        let after = algorithm.observe(sample(Verdict::Answered, 1_000));
        assert_eq!(after, start * 9 / 10);
    }
    check(Gradient::default());
    check(Aimd::default());
}

proptest! {
    #[test]
    fn the_limit_stays_within_its_bounds_for_any_observations(
        min in 1..50_usize,
        span in 0..100_usize,
        start in 0..200_usize,
        samples in proptest::collection::vec((0..3_000_u64, 0..300_usize, any::<bool>(), 0..500_u64), 1..300),
    ) {
        let bounds = Bounds { min, start, max: min + span, ..Bounds::default() };
        let algorithms: [Box<dyn Algorithm>; 2] = [Box::new(Gradient::new(bounds)), Box::new(Aimd::new(bounds))];
        for mut algorithm in algorithms {
            let mut at = Instant::now();
            prop_assert!((min..=min + span).contains(&algorithm.limit()));
            for &(latency_ms, in_flight, dropped, wait_ms) in &samples {
                at += Duration::from_millis(wait_ms);
                let verdict = if dropped { Verdict::Dropped } else { Verdict::Answered };
                let latency = Duration::from_millis(latency_ms);
                let limit = algorithm.observe(Sample { latency, in_flight, verdict, at });
                prop_assert!((min..=min + span).contains(&limit));
                prop_assert_eq!(limit, algorithm.limit());
            }
        }
    }
}
