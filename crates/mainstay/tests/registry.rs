//! The registry of the parts that may refuse a request or a call.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use mainstay::breaker::{BreakerConfig, BreakerState, Breakers};
use mainstay::budget::{BudgetConfig, RetryBudget};
use mainstay::bulkhead::BulkheadLayer;
use mainstay::client::{self, ClientConfig, ClientRequest, ClientStack};
use mainstay::limit::{Fixed, Limiter, QueueConfig};
use mainstay::random::Random;
use mainstay::server::rate_limit::RateLimitLayer;
use mainstay::server::{self, RateLimitConfig, ServerConfig};
use mainstay::throttle::{ThrottleConfig, ThrottleLayer};
use mainstay::{CallError, Endpoint, Registry};
use serde_json::json;
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, ServiceExt as _, service_fn};

type Transport = BoxCloneSyncService<ClientRequest, Response<Bytes>, CallError>;

/// A client of a peer that answers with `status`.
fn client(peer: &str, status: u16) -> ClientStack<Transport> {
    let transport = service_fn(move |_: ClientRequest| async move {
        Ok(Response::builder().status(status).body(Bytes::new()).unwrap())
    });
    client::stack(ClientConfig::new(peer), BoxCloneSyncService::new(transport)).unwrap()
}

async fn call(client: &ClientStack<Transport>) {
    let request = Request::get("http://10.0.0.1:8081/v1/items").body(Full::default()).unwrap();
    drop(client.clone().oneshot(request).await);
}

fn quota() -> RateLimitConfig {
    RateLimitConfig::new(NonZeroU32::MIN, Duration::from_secs(5), |_| None)
}

#[tokio::test(start_paused = true)]
async fn both_stacks_are_listed_with_every_part_and_its_state() {
    let registry = Registry::default();
    let server = server::stack(ServerConfig::default().rate_limit(Some(quota()))).unwrap();
    registry.server("public", &server);
    let client = client("inventory", 500);
    registry.client(&client);
    for _ in 0..5 {
        call(&client).await;
    }
    let expected = json!({
        "limiters": [{
            "name": "public", "algorithm": "fixed", "limit": 64, "in_flight": 0,
            "waiting": [0, 0, 0, 0], "queue_capacity": 32, "standing": false,
        }],
        "quotas": [{"name": "public", "quota": 1, "window_ms": 5_000, "keys": 0}],
        "breakers": [{
            "name": "10.0.0.1:8081", "peer": "inventory", "state": "open", "calls": 0, "failures": 0,
            "slow_calls": 0, "consecutive_failures": 0, "trips": 1,
            "open_for_ms": client.breakers().list()[0].open_for_ms,
        }],
        "bulkheads": [{"name": "inventory", "limit": 256, "in_flight": 0}],
        "throttles": [{"name": "inventory", "held_back_percent": 0, "answered": 5, "throttled": 0}],
        "budgets": [{"name": "inventory", "deposits": 0, "spent": 0, "available": 0}],
    });
    assert_eq!(serde_json::to_value(registry.snapshot()).unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn each_part_is_listed_when_it_is_used_alone() {
    let registry = Registry::default();
    let limiter = Limiter::new(Fixed::new(3), QueueConfig::default());
    let quotas = RateLimitLayer::new(Some(quota()));
    let bulkhead = BulkheadLayer::new("a", 7).unwrap();
    let throttle = ThrottleLayer::new("b", ThrottleConfig::default(), Random::seeded(1)).unwrap();
    let budget = RetryBudget::new(&BudgetConfig::default()).unwrap();
    let breakers = Breakers::new("d", BreakerConfig::default(), Random::seeded(1)).unwrap();
    breakers.endpoint(&Endpoint::parse("10.0.0.2:80").unwrap());
    registry.limiter("l", &limiter);
    registry.quotas("q", &quotas);
    registry.quotas("none", &RateLimitLayer::new(None));
    registry.bulkhead("a", &bulkhead);
    registry.throttle("b", &throttle);
    registry.budget("c", &budget);
    registry.breakers(&breakers);
    (0..30).for_each(|_| budget.deposit(tokio::time::Instant::now()));
    budget.withdraw(tokio::time::Instant::now()).unwrap();
    let full = throttle.layer(service_fn(|_: Request<Bytes>| async {
        Ok::<_, CallError>(Response::builder().status(429).body(Bytes::new()).unwrap())
    }));
    for _ in 0..21 {
        drop(full.clone().oneshot(Request::new(Bytes::new())).await);
    }
    let all = registry.snapshot();
    assert_eq!((&*all.limiters[0].name, all.limiters[0].state.limit), ("l", 3));
    assert_eq!(all.quotas.iter().map(|q| &*q.name).collect::<Vec<_>>(), ["q"]);
    assert_eq!(all.bulkheads[0].state.limit, 7);
    let held_back = all.throttles[0].state;
    assert_eq!((held_back.held_back_percent, held_back.answered, held_back.throttled), (20, 21, 21));
    let spent = all.budgets[0].state;
    assert_eq!((spent.deposits, spent.spent, spent.available), (30, 1, 2));
    assert_eq!(all.breakers[0].name, "10.0.0.2:80");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_no_longer_used_leaves_the_list() {
    let registry = Registry::default();
    let server = server::stack(ServerConfig::default().rate_limit(Some(quota()))).unwrap();
    let service = server.layer(service_fn(|_: Request<_>| async {
        Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    registry.server("public", &server);
    drop(server);
    let (one, other) = (client("inventory", 200), client("payments", 200));
    registry.client(&one);
    registry.client(&other);
    call(&one).await;
    let clone = one.clone();
    drop((one, other));
    let all = registry.snapshot();
    assert_eq!((all.limiters.len(), all.quotas.len()), (1, 1), "the service still uses its limiter");
    assert_eq!(all.bulkheads.iter().map(|b| &*b.name).collect::<Vec<_>>(), ["inventory"]);
    assert_eq!((all.breakers.len(), all.throttles.len(), all.budgets.len()), (1, 1, 1));
    drop(service.oneshot(Request::new(Full::<Bytes>::default())).await);
    drop(clone);
    assert_eq!(serde_json::to_string(&registry.snapshot()).unwrap().matches('{').count(), 1);
    assert!(registry.breaker("10.0.0.1:8081").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_breaker_is_found_by_its_endpoint_and_forced() {
    let registry = Registry::default();
    let (inventory, payments) = (client("inventory", 200), client("payments", 200));
    registry.client(&inventory);
    registry.client(&payments);
    call(&payments).await;
    assert!(registry.breaker("10.0.0.1:9").is_none());
    registry.breaker("10.0.0.1:8081").unwrap().force_open();
    assert_eq!(payments.breakers().list()[0].state, BreakerState::ForcedOpen);
}
