//! Tests of each breaker for three faults. A breaker's speed means little if it has one of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use failsafe::futures::CircuitBreaker as _;
use futures_util::FutureExt as _;
use http::Response;
use mainstay::CallError;
use mainstay::breaker::{BreakerConfig, BreakerLayer, Breakers};
use mainstay::random::Random;
use recloser::{AsyncRecloser, Recloser};
use tokio::sync::oneshot;
use tower::{Layer as _, Service, ServiceExt as _};
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};

use crate::Baseline;
use crate::call::{Boom, Failure, Req, requests, runtime};

type Pending<T> = Pin<Box<dyn Future<Output = T>>>;
type Work = Pin<Box<dyn Future<Output = Result<(), Boom>> + Send>>;

/// A breaker as a function: it makes one call with the given work and returns true if the call succeeded.
type Breaker = Box<dyn Fn(Work) -> Pending<bool>>;

/// A breaker under test. It stays open for [`OPEN`] and allows one probe, if the library has that setting.
struct Subject {
    name: &'static str,
    make: fn() -> Breaker,
}

/// Time for which the breakers stay open.
const OPEN: Duration = Duration::from_millis(2);

fn tower<E, S>(make: impl FnOnce(Inner<E>) -> S) -> Breaker
where
    E: Failure + 'static,
    S: Service<Req> + Clone + 'static,
{
    let next: Arc<Mutex<Option<Work>>> = Arc::default();
    let service = make(Inner { next: Arc::clone(&next), _error: std::marker::PhantomData });
    Box::new(move |work| {
        let (service, next) = (service.clone(), Arc::clone(&next));
        Box::pin(async move {
            *next.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
            service.oneshot(requests(Baseline::Plain)()).await.is_ok()
        })
    })
}

/// Inner service that executes the work in `next`.
struct Inner<E> {
    next: Arc<Mutex<Option<Work>>>,
    _error: std::marker::PhantomData<fn() -> E>,
}

impl<E> Clone for Inner<E> {
    fn clone(&self) -> Self {
        Self { next: Arc::clone(&self.next), _error: self._error }
    }
}

impl<E: Failure> Service<Req> for Inner<E> {
    type Response = Response<Bytes>;
    type Error = E;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, E>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), E>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        let work = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let work = work.expect("each call stores its work in `next` first");
        Box::pin(async move {
            match work.await {
                Ok(()) => Ok(Response::new(Bytes::new())),
                Err(Boom) => Err(E::make()),
            }
        })
    }
}

fn resilience(window: SlidingWindowType) -> Breaker {
    tower::<Boom, _>(move |inner| {
        CircuitBreakerLayer::builder()
            .failure_rate_threshold(0.5)
            .sliding_window_type(window)
            .sliding_window_size(100)
            .sliding_window_duration(Duration::from_secs(10))
            .minimum_number_of_calls(20)
            .wait_duration_in_open(OPEN)
            .permitted_calls_in_half_open(1)
            .build()
            .expect("the peer accepts its documented settings")
            .layer(inner)
    })
}

const SUBJECTS: [Subject; 5] = [
    Subject {
        name: "mainstay",
        make: || {
            tower::<CallError, _>(|inner| {
                let config = BreakerConfig::default().open_min(OPEN).open_max(OPEN).probes(1);
                let breakers =
                    Breakers::new("peer", config, Random::seeded(1)).expect("the settings are in range");
                BreakerLayer::new(breakers).layer(inner)
            })
        },
    },
    Subject { name: "tower-resilience, count window", make: || resilience(SlidingWindowType::CountBased) },
    Subject { name: "tower-resilience, time window", make: || resilience(SlidingWindowType::TimeBased) },
    Subject {
        name: "failsafe",
        make: || {
            let backoff = failsafe::backoff::constant(OPEN);
            let policy = failsafe::failure_policy::consecutive_failures(5, backoff);
            let breaker = Arc::new(failsafe::Config::new().failure_policy(policy).build());
            Box::new(move |work| {
                let breaker = Arc::clone(&breaker);
                Box::pin(async move { breaker.call(work).await.is_ok() })
            })
        },
    },
    Subject {
        name: "recloser",
        make: || {
            let breaker = Arc::new(AsyncRecloser::from(Recloser::custom().open_wait(OPEN).build()));
            Box::new(move |work| {
                let breaker = Arc::clone(&breaker);
                Box::pin(async move { breaker.call(work).await.is_ok() })
            })
        },
    },
];

/// Results of one breaker.
#[derive(Debug)]
pub struct Caught {
    pub name: &'static str,
    /// Consecutive failures, after 10,000 successes, until the breaker opened. `None` if 100,000 were not enough.
    pub failures_to_open: Option<usize>,
    /// Number of calls let through, of 100 concurrent calls to the half-open breaker. It should be 1.
    pub probes: usize,
    /// True if a straggler, a call that began before the breaker opened, closes it while its probe is still running.
    /// `None` if the half-open breaker lets all calls through, because the test then shows nothing.
    pub straggler_closes: Option<bool>,
}

fn ready(result: Result<(), Boom>) -> Work {
    Box::pin(std::future::ready(result))
}

/// True if the breaker lets a call through to its work.
fn lets_through(breaker: &Breaker) -> bool {
    breaker(ready(Ok(()))).now_or_never().unwrap_or_default()
}

fn open(breaker: &Breaker) -> Option<usize> {
    (1..=100_000).find(|_| {
        let reached = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&reached);
        let work: Work = Box::pin(async move {
            seen.fetch_add(1, Ordering::Relaxed);
            Err(Boom)
        });
        breaker(work).now_or_never();
        reached.load(Ordering::Relaxed) == 0
    })
}

fn wait_for_half_open() {
    std::thread::sleep(10 * OPEN);
}

fn catch(subject: &Subject) -> Caught {
    let breaker = (subject.make)();
    for _ in 0..10_000 {
        assert!(lets_through(&breaker), "{}: a closed breaker must let a call through", subject.name);
    }
    // The last call found the breaker open and is not one of the failures.
    let failures_to_open = open(&breaker).map(|calls| calls - 1);

    let breaker = (subject.make)();
    let (finish, finished) = oneshot::channel();
    let mut straggler = breaker(Box::pin(async move { finished.await.map_err(|_| Boom) }));
    assert!((&mut straggler).now_or_never().is_none(), "the straggler must wait for its work");
    open(&breaker);
    wait_for_half_open();
    let reached = Arc::new(AtomicUsize::new(0));
    let mut probes: Vec<_> = (0..100)
        .map(|_| {
            let reached = Arc::clone(&reached);
            breaker(Box::pin(async move {
                reached.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            }))
        })
        .collect();
    for probe in &mut probes {
        probe.now_or_never();
    }
    let let_through = reached.load(Ordering::Relaxed);
    // If the breaker lets all calls through, a straggler cannot change that.
    let straggler_closes = (let_through < 100).then(|| {
        assert!(finish.send(()).is_ok(), "the straggler must still wait for its result");
        straggler.now_or_never();
        lets_through(&breaker)
    });
    Caught { name: subject.name, failures_to_open, probes: let_through, straggler_closes }
}

/// Tests all breakers.
pub fn set() -> Vec<Caught> {
    let runtime = runtime();
    let _entered = runtime.enter();
    SUBJECTS.iter().map(catch).collect()
}
