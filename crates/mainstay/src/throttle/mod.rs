//! Client-side throttling: when a peer sheds more than half of our calls, this layer holds some back here. A refusal
//! here costs nothing and spares the peer the work of refusing.
//!
//! Each accepted call adds credit, and each *throttled* call (429, or 503 with `not-executed`) takes some away. The
//! proportion is such that the balance stays level when one call in K is accepted: with K = 2 the peer gets twice the
//! calls that it executes, as in "Handling Overload", Google SRE Book. Below zero, every call of debt holds back a
//! fifth of the share that is still sent, down to a lowest share that is always sent, so that the peer is always
//! probed.
//!
//! The book's own rule compares counts of the last two minutes, held-back calls included. It therefore continues to
//! hold back for as long as its window contains the worst of the overload: after a spike to ten times the capacity,
//! it refuses nearly all of the ordinary load until the window has moved on. A balance follows the current behaviour
//! of the peer. Ten accepted calls take it from its lowest value to zero. So does one second without a throttled
//! call: clients that call seldom, and clients whose breaker is open, would otherwise need a tenth of their calls to
//! discover that the peer is healthy.
//!
//! Failures are left to the circuit breaker, and calls in flight are not counted yet. While the peer throttles
//! nothing, a call costs one atomic load.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use mainstay::throttle::{ThrottleConfig, ThrottleLayer};
//! use mainstay::{CallError, random::Random};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let full = service_fn(|_: Request<Bytes>| async {
//!     Ok::<_, CallError>(Response::builder().status(429).body(Bytes::new()).unwrap())
//! });
//! let layer = ThrottleLayer::new("inventory", ThrottleConfig::default(), Random::seeded(1))?;
//! let client = layer.layer(full);
//! let mut held_back = 0;
//! for _ in 0..1_000 {
//!     held_back += usize::from(client.clone().oneshot(Request::new(Bytes::new())).await.is_err());
//! }
//! assert!((800..950).contains(&held_back));
//! # Ok(())
//! # }
//! ```

pub(crate) mod balance;
mod config;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use crate::metric::{Counter, counter};
use pin_project_lite::pin_project;
use serde::Serialize;
use tokio::time::Instant;
use tower::{Layer, Service};

use self::balance::Balance;
pub use self::config::ThrottleConfig;
use crate::builder::Builder;
use crate::classify::{Classify, Http, Plain, ReadRequest};
use crate::client_names as names;
use crate::clock::{self, nanos_since};
use crate::config_error::ConfigError;
use crate::decision::{Decided, Level};
use crate::random::Random;
use crate::sync::{AtomicU64, Ordering};
use crate::window::{Counts, Window};
use crate::{CallError, Gate, Outcome, RequestContext};

const SLOTS: usize = if cfg!(loom) { 2 } else { 20 };

/// A throttle's state at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ThrottleSnapshot {
    /// Share of calls that is held back now, in per cent.
    pub held_back_percent: u32,
    /// Calls in the window that the peer has answered.
    pub answered: u64,
    /// Calls in the window that the peer has throttled.
    pub throttled: u64,
}

#[derive(Debug)]
pub(crate) struct State {
    peer: Arc<str>,
    config: ThrottleConfig,
    random: Random,
    /// `a` answers, `b` answers with which the peer throttled. Used only in events and errors.
    window: Window<SLOTS>,
    balance: Balance,
    base: Instant,
    /// Time of the last throttled call, in nanoseconds since `base`; zero for never.
    throttled_at: AtomicU64,
    rejected: Counter,
}

/// Layer that holds calls back while the peer sheds. Clones, and services made from it, share their state.
#[derive(Debug, Clone)]
pub struct ThrottleLayer<C = Http> {
    state: Arc<State>,
    classify: C,
}

impl ThrottleLayer {
    /// A throttle for HTTP calls to `peer`.
    pub fn new(peer: &str, config: ThrottleConfig, random: Random) -> Result<Self, ConfigError> {
        Self::classified(peer, config, random, Http)
    }

    /// A layer for any service. It has an effect only with a classifier that reads [`Outcome::Throttled`].
    pub fn builder(peer: &str) -> Builder<ThrottleConfig, Plain> {
        Builder::new(peer)
    }
}

impl<C> ThrottleLayer<C> {
    /// A throttle that reads requests and results by `classify`.
    pub fn classified(
        peer: &str,
        config: ThrottleConfig,
        random: Random,
        classify: C,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let state = Arc::new(State {
            peer: peer.into(),
            window: Window::new(config.window),
            balance: Balance::new(&config),
            config,
            random,
            base: Instant::now(),
            throttled_at: AtomicU64::new(0),
            rejected: counter!(names::REJECTED, "peer" => peer.to_owned(), "reason" => "held-back"),
        });
        Ok(Self { state, classify })
    }

    /// A weak reference, for a registry that observes the throttle without keeping it alive.
    pub(crate) fn downgrade(&self) -> Weak<State> {
        Arc::downgrade(&self.state)
    }
}

impl State {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 99
    pub(crate) fn snapshot(&self) -> ThrottleSnapshot {
        let Counts { a: answered, b: throttled, .. } =
            self.window.sum(nanos_since(self.base, Instant::now()));
        let share = self.share(Instant::now());
        ThrottleSnapshot { held_back_percent: (share * 100.0).round() as u32, answered, throttled }
    }

    /// Whether this call is held back, with the counts for the refusal.
    fn holds_back(&self) -> Option<Counts> {
        if self.throttled_at.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let now = clock::now();
        let share = self.share(now);
        let held_back = share > 0.0 && self.random.chance(share);
        held_back.then(|| self.window.sum(nanos_since(self.base, now)))
    }

    /// The share of calls to hold back now.
    fn share(&self, now: Instant) -> f64 {
        let throttled_at = self.throttled_at.load(Ordering::Relaxed);
        let now = nanos_since(self.base, now);
        let window = u64::try_from(self.config.window.as_nanos()).unwrap_or(u64::MAX);
        if now.saturating_sub(throttled_at) > window {
            self.balance.forgive();
        }
        self.balance.held_back()
    }

    fn count(&self, outcome: Outcome) {
        let throttled = match outcome {
            Outcome::Throttled => true,
            Outcome::Success
            | Outcome::Refused
            | Outcome::ClientFault
            | Outcome::FailedKnown
            | Outcome::Unknown => false,
            // The call did not reach the peer, or its caller left before the answer.
            Outcome::RejectedUnsent | Outcome::Cancelled => return,
        };
        let now = nanos_since(self.base, clock::now());
        if throttled {
            self.throttled_at.store(now.max(1), Ordering::Relaxed);
            self.balance.throttled();
        } else {
            self.balance.accepted();
        }
        self.window.add(now, Counts { a: 1, b: u64::from(throttled), c: 0 });
    }

    #[cold]
    fn refuse(&self, counts: Counts, context: Option<&RequestContext>) -> CallError {
        self.rejected.increment(1);
        Decided {
            layer: "throttle",
            action: "reject",
            why: format!("{} of {} calls were throttled", counts.b, counts.a),
            peer: Some(&self.peer),
            endpoint: None,
            level: Level::Info,
        }
        .record(context);
        CallError::HeldBack { peer: Arc::clone(&self.peer), refused: counts.b, requests: counts.a }
    }
}

impl<C> Builder<ThrottleConfig, C> {
    /// The layer. Fails when a setting is out of its range.
    pub fn build(self) -> Result<ThrottleLayer<C>, ConfigError> {
        ThrottleLayer::classified(&self.peer, self.config, self.random, self.classify)
    }
}

impl<S, C: Clone> Layer<S> for ThrottleLayer<C> {
    type Service = Throttle<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Throttle { inner, layer: self.clone() }
    }
}

/// The service of [`ThrottleLayer`].
#[derive(Debug, Clone)]
pub struct Throttle<S, C = Http> {
    inner: S,
    layer: ThrottleLayer<C>,
}

impl<S, C, Req> Service<Req> for Throttle<S, C>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + ReadRequest<Req> + Clone,
{
    type Response = S::Response;
    type Error = C::Error;
    type Future = ThrottleFuture<S::Future, C, C::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(|error| self.layer.classify.inner(error))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let ThrottleLayer { state, classify } = &self.layer;
        if let Some(counts) = state.holds_back() {
            return Gate::refused(classify.rejected(state.refuse(counts, classify.context(&request))));
        }
        // A repeat may be refused because of its own work, which shows nothing of the room for other calls.
        let state = (!classify.is_repeat(&request)).then(|| Arc::clone(state));
        Gate::open(Counted { call: self.inner.call(request), state, classify: classify.clone() })
    }
}

/// The future of [`Throttle`]: a call, or its refusal. If it is dropped, nothing is counted: the peer's answer is not
/// known.
pub type ThrottleFuture<F, C, E> = Gate<Counted<F, C>, E>;

pin_project! {
    /// A call whose answer counts in the throttle's balance.
    #[derive(Debug)]
    pub struct Counted<F, C> {
        #[pin]
        call: F,
        state: Option<Arc<State>>,
        classify: C,
    }
}

impl<F, C, R, E> Future for Counted<F, C>
where
    F: Future<Output = Result<R, E>>,
    C: Classify<R, E>,
{
    type Output = Result<R, C::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.call.poll(cx)).map_err(|error| this.classify.inner(error));
        if let Some(state) = this.state {
            state.count(this.classify.outcome(&result));
        }
        Poll::Ready(result)
    }
}
