//! The compared arms: the control, the control with one layer, and all layers on.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use http::{Request, Response};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use mainstay::attempt_timeout::AttemptTimeoutLayer;
use mainstay::breaker::{BreakerConfig, BreakerLayer, Breakers};
use mainstay::budget::{BudgetConfig, RetryBudget};
use mainstay::client::{self, ClientConfig, ClientRequest, HyperTransport, StampLayer, TransportConfig};
use mainstay::coalesce::CoalesceLayer;
use mainstay::headers::X_DEADLINE_MS;
use mainstay::limit::{Bounds, Fixed, Limiter, QueueConfig};
use mainstay::random::Random;
use mainstay::retry::{RetryConfig, RetryLayer};
use mainstay::server::deadline::DeadlineLayer;
use mainstay::server::shed::ShedLayer;
use mainstay::server::{DeadlinePolicy, LimitConfig, RateLimitConfig, ServerConfig};
use mainstay::throttle::{ThrottleConfig, ThrottleLayer};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer as _, Service, ServiceExt as _, service_fn};

use crate::naive;
use crate::series::Series;
use crate::settings::{ATTEMPT, Caller, PATIENCE, WORKERS};

/// The dependency with the arm's server layers around it.
pub(crate) type Guarded =
    BoxCloneSyncService<Request<Incoming>, Response<UnsyncBoxBody<Bytes, BoxError>>, Infallible>;

/// A layer that an arm can have alone or can lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layer {
    /// Server: concurrency limit with its bounded queue
    Limit,
    /// Client and server: propagation of the deadline, and its enforcement at the server
    Deadline,
    /// Client: retry budget
    Budget,
    /// Client: circuit breakers
    Breaker,
    /// Client: throttle that does not send requests which the server would shed
    Throttle,
}

impl Layer {
    pub(crate) const ALL: [Self; 5] =
        [Self::Limit, Self::Deadline, Self::Budget, Self::Breaker, Self::Throttle];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit and queue",
            Self::Deadline => "deadline",
            Self::Budget => "retry budget",
            Self::Breaker => "breaker",
            Self::Throttle => "throttle",
        }
    }
}

/// Set of active layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arm {
    /// hyper with a timeout for each attempt and three attempts with jittered backoff.
    Control,
    /// The control with one layer of the crate.
    Alone(Layer),
    /// Both stacks of the crate, or both without one layer.
    All { without: Option<Layer>, adaptive: bool },
}

impl Arm {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Control => "control".to_owned(),
            Self::Alone(layer) => format!("{} alone", layer.as_str()),
            Self::All { adaptive: false, .. } => "all on".to_owned(),
            Self::All { adaptive: true, .. } => "all on, adaptive limit".to_owned(),
        }
    }
}

/// Further layers for some scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extras {
    /// True if identical reads share one call.
    pub(crate) coalesce: bool,
    /// True if each key has a quota.
    pub(crate) quota_per_key: bool,
}

/// Server layers in front of the workers, by the arm and its extras.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guard(pub(crate) Arm, pub(crate) Extras);

/// Puts the arm's server layers around `handle`.
pub(crate) fn guard<F, Fut>(guard: Guard, arrivals: &Series, handle: F) -> Guarded
where
    F: Fn(Request<()>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let arrivals = arrivals.clone();
    match guard.0 {
        Arm::Alone(Layer::Limit) => {
            let limiter = Limiter::new(Fixed::new(WORKERS), QueueConfig::default());
            boxed(ShedLayer::new(limiter).layer(handler(handle)), arrivals, false)
        }
        Arm::Alone(Layer::Deadline) => {
            boxed(DeadlineLayer::default().layer(handler(handle)), arrivals, false)
        }
        Arm::Control | Arm::Alone(Layer::Budget | Layer::Breaker | Layer::Throttle) => {
            boxed(handler(handle), arrivals, false)
        }
        Arm::All { without, adaptive } => {
            let stack = mainstay::server::stack(server_config(without, adaptive, guard.1))
                .expect("every setting is in its range");
            boxed(stack.layer(handler(handle)), arrivals, without == Some(Layer::Deadline))
        }
    }
}

/// Settings of the server stack. The limit is the number of workers; all other settings are the crate's defaults.
fn server_config(without: Option<Layer>, adaptive: bool, extras: Extras) -> ServerConfig {
    let mut config = ServerConfig::default().limit(LimitConfig::Fixed(WORKERS));
    if adaptive {
        config.limit = LimitConfig::Gradient(Bounds::default());
    }
    if without == Some(Layer::Limit) {
        config.limit = LimitConfig::Fixed(1_000_000);
    }
    if without == Some(Layer::Deadline) {
        let long = Duration::from_secs(30);
        config.deadline = DeadlinePolicy::new(long, long);
    }
    if extras.quota_per_key {
        // 40 requests a second, of the 50 that a serialized key can have. The window is short, because a client may
        // spend a quota all at once.
        let quota = 4.try_into().expect("not zero");
        config.rate_limit = Some(RateLimitConfig::new(quota, Duration::from_millis(100), |head| {
            Some(head.uri.path().to_owned().into())
        }));
    }
    config
}

fn boxed<S, B>(service: S, arrivals: Series, forget_deadline: bool) -> Guarded
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let arrived = move |mut request: Request<Incoming>| {
        arrivals.count();
        if forget_deadline {
            request.headers_mut().remove(X_DEADLINE_MS);
        }
        request
    };
    let service = service.map_request(arrived);
    BoxCloneSyncService::new(
        service.map_response(|reply| reply.map(|body| body.map_err(Into::into).boxed_unsync())),
    )
}

/// Adapts a handler to a tower service for any body type. The handler does not read the body.
fn handler<B, F, Fut>(
    handle: F,
) -> impl tower::Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static
where
    B: 'static,
    F: Fn(Request<()>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    service_fn(move |request: Request<B>| {
        let reply = handle(request.map(drop));
        async move { Ok(reply.await) }
    })
}

/// A client with its own pool, budget and breakers. It stands for one process.
pub(crate) struct Client {
    pub(crate) caller: Caller,
    pub(crate) breakers: Option<Breakers>,
}

impl Client {
    /// A client with the arm's client layers. Every attempt counts in `attempts`.
    pub(crate) fn new(arm: Arm, extras: Extras, attempts: &Series, seed: u64) -> anyhow::Result<Self> {
        let attempts = attempts.clone();
        let pool = TransportConfig::default().max_idle(1_024);
        let transport = HyperTransport::new(&pool).map_request(move |request: ClientRequest| {
            attempts.count();
            request
        });
        let random = Random::seeded(seed);
        let plain =
            |inner: Caller| Self { caller: naive::three_tries(inner, random.clone()), breakers: None };
        let timed = naive::timed(BoxCloneSyncService::new(transport.clone()));
        Ok(match arm {
            Arm::Control | Arm::Alone(Layer::Limit) => plain(timed),
            Arm::Alone(Layer::Deadline) => {
                let stamped = StampLayer::new("dependency").layer(transport);
                plain(BoxCloneSyncService::new(
                    AttemptTimeoutLayer::new("dependency", ATTEMPT)?.layer(stamped),
                ))
            }
            Arm::Alone(Layer::Budget) => {
                let budget = RetryBudget::new(&BudgetConfig::default())?;
                let retry = RetryLayer::new("dependency", RetryConfig::default(), budget, random)?;
                Self { caller: BoxCloneSyncService::new(retry.layer(timed)), breakers: None }
            }
            Arm::Alone(Layer::Breaker) => {
                let breakers = Breakers::new("dependency", breaker_config(), random.clone())?;
                let guarded = BreakerLayer::new(breakers.clone()).layer(timed);
                let caller = naive::three_tries(BoxCloneSyncService::new(guarded), random);
                Self { caller, breakers: Some(breakers) }
            }
            Arm::Alone(Layer::Throttle) => {
                let layer = ThrottleLayer::new("dependency", ThrottleConfig::default(), random.clone())?;
                plain(BoxCloneSyncService::new(layer.layer(timed)))
            }
            Arm::All { without, .. } => {
                let stack = client::stack(client_config(without, seed), transport)?;
                let breakers = Some(stack.breakers().clone());
                let caller = if extras.coalesce {
                    BoxCloneSyncService::new(CoalesceLayer::new("dependency").layer(stack))
                } else {
                    BoxCloneSyncService::new(stack)
                };
                Self { caller, breakers }
            }
        })
    }
}

fn breaker_config() -> BreakerConfig {
    BreakerConfig::default().slow_call(ATTEMPT / 2)
}

/// Settings of the client stack. The timeouts are those of the control; all other settings are the crate's defaults.
fn client_config(without: Option<Layer>, seed: u64) -> ClientConfig {
    let mut config = ClientConfig::new("dependency")
        .total_timeout(PATIENCE)
        .reserve(Duration::ZERO)
        .attempt_timeout(ATTEMPT)
        .breaker(breaker_config())
        .seed(Some(seed));
    match without {
        None | Some(Layer::Limit | Layer::Deadline) => {}
        Some(Layer::Budget) => {
            config.retry.budget = BudgetConfig::default().percent(100).floor_per_second(1_000);
        }
        Some(Layer::Breaker) => {
            (config.breaker.min_calls, config.breaker.consecutive_failures) = (10_000, 10_000);
        }
        Some(Layer::Throttle) => config.throttle.min_calls = 10_000,
    }
    config
}
