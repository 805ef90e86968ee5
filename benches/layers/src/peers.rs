//! Rows of the peers, with the settings of the peers' documentation.

use std::future::{Ready, ready};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use failsafe::futures::CircuitBreaker as _;
use futures_util::FutureExt as _;
use http::Response;
use recloser::{AsyncRecloser, Recloser};
use tower::hedge::Hedge;
use tower::load_shed::LoadShed;
use tower::retry::Policy;
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::{Layer, Service, ServiceBuilder};
use tower_resilience_adaptive::{AdaptiveLimiterLayer, Aimd};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};
use tower_resilience_hedge::HedgeLayer;
use tower_resilience_ratelimiter::RateLimiterLayer;
use tower_resilience_retry::{RetryBudgetBuilder, RetryLayer};
use tower_resilience_timelimiter::{FixedTimeout, TimeLimiterLayer};

use crate::call::{Boom, Noop, Req, fail, failing, refusing, requests, runtime, shared};
use crate::{Baseline, Instance, Variant};

const TOWER: &str = "tower";
const RESILIENCE: &str = "tower-resilience";
const VALID: &str = "the peer accepts its documented settings";
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_hours(1);

fn noop() -> Noop<Boom> {
    Noop::new()
}

/// Policy for tower's retry layer, which leaves the use of its budget to the policy.
#[derive(Debug, Clone)]
struct Budgeted(Arc<TpsBudget>);

impl Budgeted {
    fn new() -> Self {
        Self(Arc::new(TpsBudget::default()))
    }
}

impl<E> Policy<Req, Response<Bytes>, E> for Budgeted {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Req, result: &mut Result<Response<Bytes>, E>) -> Option<Self::Future> {
        if result.is_ok() {
            self.0.deposit();
            return None;
        }
        self.0.withdraw().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}

#[derive(Debug, Clone, Copy)]
struct Always;

impl tower::hedge::Policy<Req> for Always {
    fn clone_request(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }

    fn can_retry(&self, _: &Req) -> bool {
        true
    }
}

/// tower-resilience's breaker: it opens at half of the last hundred calls, as in its first documented example.
pub fn count_window() -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .wait_duration_in_open(LONG)
        .build()
        .expect(VALID)
}

/// tower-resilience's breaker: it opens at half of the calls within `window`.
pub fn time_window(window: Duration) -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_duration(window)
        .minimum_number_of_calls(20)
        .wait_duration_in_open(LONG)
        .build()
        .expect(VALID)
}

fn time() -> TimeLimiterLayer<FixedTimeout> {
    TimeLimiterLayer::builder().timeout_duration(SECOND).build()
}

fn bulkhead() -> BulkheadLayer {
    BulkheadLayer::builder().max_concurrent_calls(64).reject_when_full().build().expect(VALID)
}

fn retry() -> RetryLayer<Req, Response<Bytes>, Boom> {
    let budget = RetryBudgetBuilder::new()
        .token_bucket()
        .tokens_per_second(10.0)
        .max_tokens(100)
        .build()
        .expect(VALID);
    RetryLayer::builder()
        .max_attempts(3)
        .exponential_backoff(Duration::from_millis(50))
        .budget(budget)
        .build()
}

fn resilience_stack() -> Instance {
    let service = ServiceBuilder::new()
        .layer(time())
        .map_err(|_| Boom)
        .layer(retry())
        .map_err(|_| Boom)
        .layer(count_window())
        .map_err(|_| Boom)
        .layer(bulkhead())
        .service(noop());
    shared(service, Baseline::Plain)
}

fn tower_stack() -> Instance {
    let service = ServiceBuilder::new()
        .timeout(2 * SECOND)
        .retry(Budgeted::new())
        .load_shed()
        .concurrency_limit(64)
        .timeout(SECOND)
        .map_err(|_| Boom)
        .service(noop());
    shared(service, Baseline::Plain)
}

fn alone<L>(layer: &L) -> Instance
where
    L: Layer<Noop<Boom>>,
    L::Service: Service<Req> + Clone + Send + 'static,
{
    shared(layer.layer(noop()), Baseline::Plain)
}

/// failsafe's breaker with its defaults.
pub type Failsafe = failsafe::StateMachine<
    failsafe::failure_policy::OrElse<
        failsafe::failure_policy::SuccessRateOverTimeWindow<failsafe::backoff::EqualJittered>,
        failsafe::failure_policy::ConsecutiveFailures<failsafe::backoff::EqualJittered>,
    >,
    (),
>;

/// failsafe's breaker with its defaults.
pub fn failsafe() -> Failsafe {
    failsafe::Config::new().build()
}

/// recloser's breaker with its defaults.
pub fn recloser() -> AsyncRecloser {
    AsyncRecloser::from(Recloser::default())
}

fn failsafe_calls(breaker: Failsafe, succeeds: bool) -> Instance {
    Arc::new(move |calls| {
        let mut request = requests(Baseline::Plain);
        runtime().block_on(async {
            for _ in 0..calls {
                let result = breaker.call(noop().call(black_box(request()))).await;
                assert_eq!(black_box(&result).is_ok(), succeeds);
            }
        });
    })
}

fn recloser_calls(breaker: AsyncRecloser, succeeds: bool) -> Instance {
    Arc::new(move |calls| {
        let mut request = requests(Baseline::Plain);
        runtime().block_on(async {
            for _ in 0..calls {
                let result = breaker.call(noop().call(black_box(request()))).await;
                assert_eq!(black_box(&result).is_ok(), succeeds);
            }
        });
    })
}

fn open_failsafe() -> Instance {
    let policy = failsafe::failure_policy::consecutive_failures(3, failsafe::backoff::constant(LONG));
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    for _ in 0..10 {
        drop(breaker.call(noop().call(failing())).now_or_never());
    }
    Arc::new(move |calls| {
        let mut request = requests(Baseline::Plain);
        runtime().block_on(async {
            for _ in 0..calls {
                let result = breaker.call(noop().call(black_box(request()))).await;
                assert!(black_box(&result).is_err());
            }
        });
    })
}

fn open_recloser() -> Instance {
    let breaker = AsyncRecloser::from(Recloser::custom().open_wait(LONG).build());
    for _ in 0..1_000 {
        drop(breaker.call(noop().call(failing())).now_or_never());
    }
    recloser_calls(breaker, false)
}

/// The rows of the peers.
pub fn variants() -> Vec<Variant> {
    let row = |group, owner, name, make| Variant { group, owner, name, baseline: Baseline::Plain, make };
    vec![
        row("breaker", RESILIENCE, "breaker, count window", || alone(&count_window())),
        row("breaker", "failsafe", "breaker", || failsafe_calls(failsafe(), true)),
        row("breaker", "recloser", "breaker", || recloser_calls(recloser(), true)),
        row("open breaker's refusal", RESILIENCE, "breaker, count window", || {
            let service = count_window().layer(noop());
            fail(&service, 200);
            refusing(service, Baseline::Plain)
        }),
        row("open breaker's refusal", "failsafe", "breaker", open_failsafe),
        row("open breaker's refusal", "recloser", "breaker", open_recloser),
        row("timeout", TOWER, "timeout", || alone(&tower::timeout::TimeoutLayer::new(SECOND))),
        row("timeout", RESILIENCE, "time limiter", || alone(&time())),
        row("retry with budget", TOWER, "retry with TpsBudget", || {
            alone(&tower::retry::RetryLayer::new(Budgeted::new()))
        }),
        row("retry with budget", RESILIENCE, "retry with token bucket", || alone(&retry())),
        row("concurrency limit", TOWER, "load shed over concurrency limit", || {
            let limit = tower::limit::ConcurrencyLimit::new(noop(), 64);
            shared(LoadShed::new(limit), Baseline::Plain)
        }),
        row("concurrency limit", RESILIENCE, "bulkhead", || alone(&bulkhead())),
        row("adaptive limit", RESILIENCE, "AIMD", || {
            let aimd = Aimd::builder().initial_limit(64).max_limit(64).build().expect(VALID);
            alone(&AdaptiveLimiterLayer::new(aimd))
        }),
        row("rate limit", RESILIENCE, "rate limiter, one key", || {
            let layer = RateLimiterLayer::builder()
                .limit_for_period(1_000_000_000)
                .refresh_period(SECOND)
                .build()
                .expect(VALID);
            alone(&layer)
        }),
        row("hedge", TOWER, "hedge", || {
            let service = Hedge::new(noop(), Always, 20, 0.95, 10 * SECOND);
            // `Hedge` is not `Clone`, so each run builds its own and two threads share nothing.
            drop(service);
            Arc::new(|calls| {
                let service = Hedge::new(noop(), Always, 20, 0.95, 10 * SECOND);
                let requests = requests(Baseline::Plain);
                runtime().block_on(crate::call::drive(service, calls, true, requests));
            })
        }),
        row("hedge", RESILIENCE, "hedge", || {
            alone(&HedgeLayer::builder().delay(Duration::from_millis(10)).max_hedged_attempts(2).build())
        }),
        row("client stack", TOWER, "2 timeouts, retry, shed, limit", tower_stack),
        row("client stack", RESILIENCE, "timeout, retry, breaker, bulkhead", resilience_stack),
    ]
}
