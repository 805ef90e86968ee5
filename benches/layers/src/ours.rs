//! Rows of mainstay: each layer alone with its defaults, and the two stacks.
//!
//! No metrics recorder and no log subscriber is installed, as for the peers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use mainstay::attempt_timeout::AttemptTimeoutLayer;
use mainstay::breaker::{Breaker, BreakerConfig, BreakerLayer, Breakers};
use mainstay::budget::{BudgetConfig, RetryBudget};
use mainstay::bulkhead::BulkheadLayer;
use mainstay::client::{self, AttemptLayer, ClientConfig, StampLayer};
use mainstay::coalesce::CoalesceLayer;
use mainstay::hedge::{HedgeConfig, HedgeLayer};
use mainstay::limit::{Aimd, Bounds, Fixed, Gradient, Limiter, QueueConfig};
use mainstay::random::Random;
use mainstay::retry::{RetryConfig, RetryLayer};
use mainstay::server::{
    self, Drain, LimitConfig, RateLimitConfig, ServerConfig, body_limit, context, deadline, drain, observe,
    panic, rate_limit, shed,
};
use mainstay::throttle::{ThrottleConfig, ThrottleLayer};
use mainstay::total_deadline::TotalDeadlineLayer;
use mainstay::{CallError, CorrelationId};
use tower::{Layer, Service};

use crate::call::{Boom, Noop, Req, fail, refusing, shared};
use crate::{Baseline, Instance, Variant};

const PEER: &str = "inventory";
const VALID: &str = "the defaults are in range";

fn noop() -> Noop<CallError> {
    Noop::new()
}

fn random() -> Random {
    Random::seeded(1)
}

/// A breaker around the no-op service, and the handle of its breakers.
pub fn breaker(config: BreakerConfig) -> (Breaker<Noop<CallError>>, Breakers) {
    let breakers = Breakers::new(PEER, config, random()).expect(VALID);
    (BreakerLayer::new(breakers.clone()).layer(noop()), breakers)
}

fn open_breaker() -> Instance {
    let ten_minutes = Duration::from_mins(10);
    let config = BreakerConfig::default().open_min(ten_minutes).open_max(ten_minutes);
    let (service, _) = breaker(config);
    fail(&service, 100);
    refusing(service, Baseline::Plain)
}

fn alone<L>(layer: &L) -> Instance
where
    L: Layer<Noop<CallError>>,
    L::Service: Service<Req> + Clone + Send + 'static,
{
    shared(layer.layer(noop()), Baseline::Plain)
}

/// An instance of a server layer. Server layers follow a reply's body to its end.
///
/// Layers that stand inside the context layer use `Baseline::Context`. Without a context in the request they would create
/// one themselves.
fn serving<L>(layer: &L, baseline: Baseline) -> Instance
where
    L: Layer<Noop<Boom, Full<Bytes>>>,
    L::Service: Service<Req> + Clone + Send + 'static,
{
    shared(layer.layer(Noop::new()), baseline)
}

fn adaptive(limiter: &std::sync::Arc<Limiter>) -> Instance {
    serving(&shed::ShedLayer::new(std::sync::Arc::clone(limiter)), Baseline::Context)
}

fn client(config: ClientConfig, baseline: Baseline) -> Instance {
    shared(client::stack(config, noop()).expect(VALID), baseline)
}

fn hedging() -> ClientConfig {
    ClientConfig::new(PEER).hedge(Some(HedgeConfig::default()))
}

fn quota() -> RateLimitConfig {
    let most = u32::MAX.try_into().expect("not zero");
    RateLimitConfig::new(most, Duration::from_secs(1), |_| Some("tenant".into()))
}

fn server(limit: LimitConfig) -> Instance {
    let config = ServerConfig::default().limit(limit).rate_limit(Some(quota())).max_body(Some(1_024));
    serving(&server::stack(config).expect(VALID), Baseline::Incoming)
}

/// The rows of mainstay.
pub fn variants() -> Vec<Variant> {
    let row = |group, name, baseline, make| Variant { group, owner: "mainstay", name, baseline, make };
    let plain = |group, name, make| row(group, name, Baseline::Plain, make);
    let inside = |group, name, make| row(group, name, Baseline::Context, make);
    let incoming = |group, name, make| row(group, name, Baseline::Incoming, make);
    vec![
        Variant {
            group: "none",
            owner: "",
            name: "bare call",
            baseline: Baseline::Plain,
            make: || shared(noop(), Baseline::Plain),
        },
        Variant {
            group: "none",
            owner: "",
            name: "with a request context",
            baseline: Baseline::Context,
            make: || shared(noop(), Baseline::Context),
        },
        Variant {
            group: "none",
            owner: "",
            name: "with headers",
            baseline: Baseline::Incoming,
            make: || shared(noop(), Baseline::Incoming),
        },
        plain("breaker", "breaker", || shared(breaker(BreakerConfig::default()).0, Baseline::Plain)),
        plain("open breaker's refusal", "breaker", open_breaker),
        plain("timeout", "attempt timeout", || {
            alone(&AttemptTimeoutLayer::new(PEER, Duration::from_secs(1)).expect(VALID))
        }),
        plain("timeout", "total deadline", || {
            alone(&TotalDeadlineLayer::new(PEER, Duration::from_secs(2), Duration::from_millis(50)))
        }),
        inside("timeout", "server deadline", || {
            serving(&deadline::DeadlineLayer::default(), Baseline::Context)
        }),
        plain("retry with budget", "retry", || {
            let budget = RetryBudget::new(&BudgetConfig::default()).expect(VALID);
            alone(&RetryLayer::new(PEER, RetryConfig::default(), budget, random()).expect(VALID))
        }),
        plain("concurrency limit", "bulkhead", || alone(&BulkheadLayer::new(PEER, 64).expect(VALID))),
        inside("concurrency limit", "shed, fixed", || {
            adaptive(&Limiter::new(Fixed::new(64), QueueConfig::default()))
        }),
        inside("adaptive limit", "shed, gradient", || {
            adaptive(&Limiter::new(Gradient::new(Bounds::default()), QueueConfig::default()))
        }),
        inside("adaptive limit", "shed, AIMD", || {
            adaptive(&Limiter::new(Aimd::new(Bounds::default()), QueueConfig::default()))
        }),
        inside("rate limit", "quota per key", || {
            serving(&rate_limit::RateLimitLayer::new(Some(quota())), Baseline::Context)
        }),
        plain("hedge", "hedge", || {
            let budget = RetryBudget::new(&BudgetConfig::default()).expect(VALID);
            alone(&HedgeLayer::new(PEER, HedgeConfig::default(), budget).expect(VALID))
        }),
        plain("only here", "throttle", || {
            alone(&ThrottleLayer::new(PEER, ThrottleConfig::default(), random()).expect(VALID))
        }),
        plain("only here", "coalesce", || alone(&CoalesceLayer::new(PEER))),
        row("only here", "attempt: span, verdict, trail", Baseline::Context, || {
            shared(AttemptLayer::new(PEER).layer(noop()), Baseline::Context)
        }),
        row("only here", "stamp: six headers", Baseline::Context, || {
            shared(StampLayer::new(PEER).layer(noop()), Baseline::Context)
        }),
        incoming("only here", "server context", || {
            serving(&context::ContextLayer::default(), Baseline::Incoming)
        }),
        inside("only here", "server observe", || {
            serving(&observe::ObserveLayer::new(None), Baseline::Context)
        }),
        inside("only here", "server drain", || {
            serving(&drain::DrainLayer::new(Drain::default()), Baseline::Context)
        }),
        inside("only here", "server panic", || serving(&panic::CatchPanicLayer, Baseline::Context)),
        inside("only here", "server body limit", || {
            serving(&body_limit::BodyLimitLayer::new(Some(1_024)), Baseline::Context)
        }),
        row("client stack", "all layers", Baseline::Context, || {
            client(ClientConfig::new(PEER), Baseline::Context)
        }),
        row("client stack", "all layers, hedging", Baseline::Context, || {
            client(hedging(), Baseline::Context)
        }),
        plain("client stack", "all layers, making the context", || {
            client(ClientConfig::new(PEER), Baseline::Plain)
        }),
        incoming("server stack", "all layers, fixed limit", || server(LimitConfig::Fixed(64))),
        incoming("server stack", "all layers, gradient", || server(LimitConfig::Gradient(Bounds::default()))),
        plain("for scale", "a correlation id", || {
            std::sync::Arc::new(|calls| {
                (0..calls).for_each(|_| drop(std::hint::black_box(CorrelationId::mint())));
            })
        }),
    ]
}
