//! Client-side throttling: when a peer sheds more than half of our calls, hold some back here, where a refusal costs
//! nothing and the peer is spared the work of refusing.
//!
//! A call is held back with probability `(requests - K * accepted) / (requests + 1)` over the last ten seconds, at most
//! `most_percent`, so that some calls always find out whether the peer has room again ("Handling Overload",
//! Google SRE Book, with K = 2). Only what the peer *throttled* (429, or 503 with `not-executed`) counts against it:
//! failures are the circuit breaker's, and calls in flight say nothing yet.
//!
//! While the peer throttles nothing, a call costs one atomic load on its way out.
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

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use metrics::{Counter, counter};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::classify::HasOutcome;
use crate::client::names;
use crate::clock::{self, nanos_since};
use crate::config_error::{ConfigError, check};
use crate::decision::{Decided, Loudness};
use crate::random::Random;
use crate::sync::{AtomicU64, Ordering};
use crate::window::{Counts, Window};
use crate::{CallError, Outcome, RequestContext};

/// How readily calls are held back.
#[derive(Debug, Clone, PartialEq)]
pub struct ThrottleConfig {
    /// How far back calls count; 1 s to 10 min. Default 10 s, in step with the breaker and the budget (the SRE book's
    /// two minutes would hold back for long after the peer has recovered).
    pub window: Duration,
    /// K, in tenths: calls are held back once fewer than one in K is accepted; 11 to 100. Default 20, half.
    pub multiplier_tenths: u64,
    /// The highest share of calls held back, in per cent; 1 to 99. Default 90, so that the peer is always asked.
    pub most_percent: u64,
    /// With fewer calls in the window none is held back; 1 to 10,000. Default 20, as the breaker.
    pub min_calls: u64,
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self { window: Duration::from_secs(10), multiplier_tenths: 20, most_percent: 90, min_calls: 20 }
    }
}

impl ThrottleConfig {
    /// Checks every range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let window = Duration::from_secs(1)..=Duration::from_mins(10);
        check(window.contains(&self.window), "throttle.window", "1 s to 10 min")?;
        let k = (11..=100).contains(&self.multiplier_tenths);
        check(k, "throttle.multiplier_tenths", "11 to 100")?;
        check((1..=99).contains(&self.most_percent), "throttle.most_percent", "1 to 99")?;
        check((1..=10_000).contains(&self.min_calls), "throttle.min_calls", "1 to 10,000")
    }
}

const SLOTS: usize = if cfg!(loom) { 2 } else { 20 };

#[derive(Debug)]
struct Shared {
    peer: Arc<str>,
    config: ThrottleConfig,
    random: Random,
    /// `a` requests, `b` those that the peer throttled or that were held back here.
    window: Window<SLOTS>,
    base: Instant,
    /// When the peer last throttled, in nanoseconds since `base`; zero for never.
    throttled_at: AtomicU64,
    rejected: Counter,
}

/// Holds calls back while the peer sheds. Clones, and services made from them, share what they know.
#[derive(Debug, Clone)]
pub struct ThrottleLayer(Arc<Shared>);

impl ThrottleLayer {
    /// For calls to `peer`.
    pub fn new(peer: &str, config: ThrottleConfig, random: Random) -> Result<Self, ConfigError> {
        config.validate()?;
        let rejected = counter!(names::REJECTED, "peer" => peer.to_owned(), "reason" => "held-back");
        Ok(Self(Arc::new(Shared {
            peer: peer.into(),
            window: Window::new(config.window),
            config,
            random,
            base: Instant::now(),
            throttled_at: AtomicU64::new(0),
            rejected,
        })))
    }
}

impl Shared {
    /// Whether this call is held back, and by what numbers.
    fn holds_back(&self) -> Option<Counts> {
        let throttled_at = self.throttled_at.load(Ordering::Relaxed);
        if throttled_at == 0 {
            return None;
        }
        let now = nanos_since(self.base, clock::now());
        let window = u64::try_from(self.config.window.as_nanos()).unwrap_or(u64::MAX);
        if now.saturating_sub(throttled_at) > window {
            return None;
        }
        let counts = self.window.sum(now);
        let chance = chance(&self.config, counts.a, counts.a - counts.b.min(counts.a));
        (chance > 0.0 && self.random.chance(chance)).then(|| {
            self.window.add(now, Counts { a: 1, b: 1, c: 0 });
            counts
        })
    }

    fn count(&self, outcome: Outcome) {
        let throttled = match outcome {
            Outcome::Throttled => true,
            Outcome::Success
            | Outcome::Refused
            | Outcome::ClientFault
            | Outcome::FailedKnown
            | Outcome::Unknown => false,
            // Never reached the peer, or never heard of again.
            Outcome::RejectedUnsent | Outcome::Cancelled => return,
        };
        let now = nanos_since(self.base, clock::now());
        if throttled {
            self.throttled_at.store(now.max(1), Ordering::Relaxed);
        }
        self.window.add(now, Counts { a: 1, b: u64::from(throttled), c: 0 });
    }

    #[cold]
    fn refuse(&self, counts: Counts, context: Option<&RequestContext>) -> CallError {
        self.rejected.increment(1);
        Decided {
            layer: "throttle",
            action: "reject",
            why: format!("{} of {} calls were throttled", counts.b, counts.a).into(),
            peer: Some(&self.peer),
            endpoint: None,
            loudness: Loudness::Info,
        }
        .record(context);
        CallError::HeldBack { peer: Arc::clone(&self.peer), refused: counts.b, requests: counts.a }
    }
}

/// The share of calls to hold back.
#[allow(clippy::cast_precision_loss)] // far below 2^52
fn chance(config: &ThrottleConfig, requests: u64, accepted: u64) -> f64 {
    if requests < config.min_calls {
        return 0.0;
    }
    let beyond = (requests * 10).saturating_sub(accepted * config.multiplier_tenths) as f64 / 10.0;
    (beyond / (requests + 1) as f64).min(config.most_percent as f64 / 100.0)
}

impl<S> Layer<S> for ThrottleLayer {
    type Service = Throttle<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Throttle { inner, shared: Arc::clone(&self.0) }
    }
}

/// See [`ThrottleLayer`].
#[derive(Debug, Clone)]
pub struct Throttle<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B> Service<Request<B>> for Throttle<S>
where
    S: Service<Request<B>>,
    S::Response: HasOutcome,
    S::Error: Into<CallError>,
{
    type Response = S::Response;
    type Error = CallError;
    type Future = ThrottleFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let state = match self.shared.holds_back() {
            Some(counts) => {
                let error = self.shared.refuse(counts, request.extensions().get());
                State::Rejected { error: Some(error) }
            }
            None => State::Running { call: self.inner.call(request), shared: Arc::clone(&self.shared) },
        };
        ThrottleFuture { state }
    }
}

pin_project! {
    /// The call. Dropping it counts nothing: what the peer would have said is not known.
    #[derive(Debug)]
    pub struct ThrottleFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Rejected { error: Option<CallError> },
        Running {
            #[pin]
            call: F,
            shared: Arc<Shared>,
        },
    }
}

impl<F, R, E> Future for ThrottleFuture<F>
where
    F: Future<Output = Result<R, E>>,
    R: HasOutcome,
    E: Into<CallError>,
{
    type Output = Result<R, CallError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Rejected { error } => {
                Poll::Ready(Err(error.take().expect("a future is not polled after it is ready")))
            }
            StateProj::Running { call, shared } => {
                let result = ready!(call.poll(cx)).map_err(Into::into);
                shared.count(crate::classify::outcome(&result));
                Poll::Ready(result)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_held_back_follows_the_formula_and_its_cap() {
        let config = ThrottleConfig::default();
        for (requests, accepted, percent) in
            [(19, 0, 0.0), (100, 100, 0.0), (100, 50, 0.0), (100, 25, 49.5), (100, 5, 89.1), (1_000, 0, 90.0)]
        {
            let got = chance(&config, requests, accepted) * 100.0;
            assert!((got - percent).abs() < 0.1, "{accepted} of {requests}: {got} %");
        }
    }
}
