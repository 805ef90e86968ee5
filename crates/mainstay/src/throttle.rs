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

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use metrics::{Counter, counter};
use pin_project_lite::pin_project;
use serde::Serialize;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::classify::HasOutcome;
use crate::client::names;
use crate::clock::{self, nanos_since};
use crate::config_error::{Check, ConfigError};
use crate::decision::{Decided, Level};
use crate::random::Random;
use crate::sync::{AtomicU64, Ordering};
use crate::window::{Counts, Window};
use crate::{CallError, Outcome, RepeatedWork, RequestContext};

/// Settings of the throttle.
#[derive(Debug, Clone, PartialEq)]
pub struct ThrottleConfig {
    /// Time without a throttled call after which the debt is cleared; 1 s to 10 min. Default 1 s, the time that a
    /// shed client is asked to wait (`Retry-After: 1`).
    pub window: Duration,
    /// K, in tenths: calls are held back once fewer than one in K is accepted; 11 to 100. Default 20, which is half.
    pub multiplier_tenths: u64,
    /// Highest share of calls held back, in per cent; 1 to 99. Default 90, so that some calls always reach the peer.
    pub most_percent: u64,
    /// Throttled calls, beyond those that accepted calls balance, before any call is held back; 1 to 10,000. Default
    /// 20, the number of calls that the breaker needs to judge.
    pub min_calls: u64,
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self { window: Duration::from_secs(1), multiplier_tenths: 20, most_percent: 90, min_calls: 20 }
    }
}

impl ThrottleConfig {
    /// Checks every range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let window = Duration::from_secs(1)..=Duration::from_mins(10);
        let mut check = Check::default();
        check.within("throttle.window", &self.window, window, "1 s to 10 min");
        check.within("throttle.multiplier_tenths", &self.multiplier_tenths, 11..=100, "11 to 100");
        check.within("throttle.most_percent", &self.most_percent, 1..=99, "1 to 99");
        check.within("throttle.min_calls", &self.min_calls, 1..=10_000, "1 to 10,000");
        check.finish()
    }
}

const SLOTS: usize = if cfg!(loom) { 2 } else { 20 };

/// The cost of a throttled call in units of the balance. An accepted call earns this value times (K - 1).
const CALL: u64 = 10;
/// The factor by which one call of debt reduces the share that is sent. A smaller factor recovers sooner after an
/// overload and varies more during one; with this factor, ten accepted calls lead from a tenth back to all.
const KEPT: f64 = 0.8;

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
pub(crate) struct Shared {
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
pub struct ThrottleLayer(Arc<Shared>);

impl ThrottleLayer {
    /// A throttle for calls to `peer`.
    pub fn new(peer: &str, config: ThrottleConfig, random: Random) -> Result<Self, ConfigError> {
        config.validate()?;
        let rejected = counter!(names::REJECTED, "peer" => peer.to_owned(), "reason" => "held-back");
        Ok(Self(Arc::new(Shared {
            peer: peer.into(),
            window: Window::new(config.window),
            balance: Balance::new(&config),
            config,
            random,
            base: Instant::now(),
            throttled_at: AtomicU64::new(0),
            rejected,
        })))
    }
}

impl ThrottleLayer {
    /// A weak reference, for a registry that observes the throttle without keeping it alive.
    pub(crate) fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.0)
    }
}

impl Shared {
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

/// The balance of accepted and throttled calls. One atomic that stays above zero: the balance is `level` less `zero`.
#[derive(Debug)]
pub(crate) struct Balance {
    level: AtomicU64,
    zero: u64,
    full: u64,
    earned: u64,
    most: f64,
}

impl Balance {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // small and positive
    pub(crate) fn new(config: &ThrottleConfig) -> Self {
        let most = config.most_percent as f64 / 100.0;
        // The debt at which the highest share is held back.
        let zero = ((1.0 - most).ln() / KEPT.ln() * CALL as f64).ceil() as u64;
        let full = zero + config.min_calls * CALL;
        Self { level: AtomicU64::new(full), zero, full, earned: config.multiplier_tenths - CALL, most }
    }

    /// Clears the debt and gives no credit: if the peer throttles again, that counts at once.
    pub(crate) fn forgive(&self) {
        if self.level.load(Ordering::Relaxed) < self.zero {
            self.change(|level| level.max(self.zero));
        }
    }

    pub(crate) fn throttled(&self) {
        self.change(|level| level.saturating_sub(CALL));
    }

    pub(crate) fn accepted(&self) {
        // The usual case does not write.
        if self.level.load(Ordering::Relaxed) < self.full {
            self.change(|level| (level + self.earned).min(self.full));
        }
    }

    fn change(&self, to: impl Fn(u64) -> u64) {
        let mut seen = self.level.load(Ordering::Relaxed);
        while let Err(now) =
            self.level.compare_exchange_weak(seen, to(seen), Ordering::Relaxed, Ordering::Relaxed)
        {
            seen = now;
        }
    }

    /// The share of calls to hold back.
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    pub(crate) fn held_back(&self) -> f64 {
        let debt = self.zero.saturating_sub(self.level.load(Ordering::Relaxed));
        (1.0 - KEPT.powf(debt as f64 / CALL as f64)).min(self.most)
    }
}

impl<S> Layer<S> for ThrottleLayer {
    type Service = Throttle<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Throttle { inner, shared: Arc::clone(&self.0) }
    }
}

/// The service of [`ThrottleLayer`].
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
        let state = if let Some(counts) = self.shared.holds_back() {
            let error = self.shared.refuse(counts, request.extensions().get());
            State::Rejected { error: Some(error) }
        } else {
            // A repeat may be refused because of its own work, which shows nothing of the room for other calls.
            let counted = (!RepeatedWork::marks(&request)).then(|| Arc::clone(&self.shared));
            State::Running { call: self.inner.call(request), counted }
        };
        ThrottleFuture { state }
    }
}

pin_project! {
    /// The call. If it is dropped, nothing is counted: the peer's answer is not known.
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
            counted: Option<Arc<Shared>>,
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
            StateProj::Running { call, counted } => {
                let result = ready!(call.poll(cx)).map_err(Into::into);
                if let Some(shared) = counted {
                    shared.count(crate::classify::outcome(&result));
                }
                Poll::Ready(result)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(config: &ThrottleConfig, throttled: u32, accepted: u32) -> f64 {
        let balance = Balance::new(config);
        (0..throttled).for_each(|_| balance.throttled());
        (0..accepted).for_each(|_| balance.accepted());
        (balance.held_back() * 1_000.0).round() / 10.0
    }

    #[test]
    fn the_share_held_back_follows_the_balance_and_its_cap() {
        let config = ThrottleConfig::default();
        let table = [
            (0, 0, 0.0),
            (20, 0, 0.0),
            (21, 0, 20.0),
            (22, 0, 36.0),
            (30, 0, 89.3),
            (31, 0, 90.0),
            (9_999, 0, 90.0),
            (9_999, 5, 70.0),
            (9_999, 11, 0.0),
        ];
        for (throttled, accepted, percent) in table {
            let got = after(&config, throttled, accepted);
            assert!((got - percent).abs() < 0.6, "{throttled} throttled, {accepted} accepted: {got} %");
        }
    }

    #[test]
    fn it_balances_where_one_call_in_k_is_accepted() {
        for (multiplier_tenths, throttled_for_each_accepted) in [(20, 1), (30, 2), (50, 4)] {
            let balance = Balance::new(&ThrottleConfig { multiplier_tenths, ..ThrottleConfig::default() });
            (0..23).for_each(|_| balance.throttled());
            let before = balance.held_back();
            for _ in 0..1_000 {
                (0..throttled_for_each_accepted).for_each(|_| balance.throttled());
                balance.accepted();
            }
            assert!((balance.held_back() - before).abs() < 1e-9, "K = {multiplier_tenths} tenths");
        }
    }
}
