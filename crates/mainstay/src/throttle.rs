//! Client-side throttling: when a peer sheds more than half of our calls, hold some back here, where a refusal costs
//! nothing and the peer is spared the work of refusing.
//!
//! Each accepted call earns credit and each *throttled* one (429, or 503 with `not-executed`) costs some, in such a
//! proportion that the balance holds where one call in K is accepted: with K = 2 the peer is asked for twice what it
//! does, as in "Handling Overload", Google SRE Book. Below zero, every call of debt holds back a fifth of what is still
//! sent, down to a share that is always sent, so that the peer is always asked.
//!
//! The book's own rule compares counts of the last two minutes, held-back calls among them, and so goes on holding back
//! for as long as its window remembers the worst of it: after a spike to ten times the capacity nearly all of the ordinary
//! load is refused until the window has moved on. A balance goes by what the peer does now: ten accepted calls take it from
//! its lowest to zero, and so does a second without a throttled one, for clients that call seldom and for those whose
//! breaker is open, which would otherwise wait for a tenth of their calls to find out that the peer is well.
//!
//! Failures are the circuit breaker's, and calls in flight say nothing yet. While the peer throttles nothing, a call costs
//! one atomic load on its way out.
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
use crate::decision::{Decided, Loudness};
use crate::random::Random;
use crate::sync::{AtomicU64, Ordering};
use crate::window::{Counts, Window};
use crate::{CallError, Outcome, RepeatedWork, RequestContext};

/// How readily calls are held back.
#[derive(Debug, Clone, PartialEq)]
pub struct ThrottleConfig {
    /// A peer that has throttled nothing for so long is owed nothing any more; 1 s to 10 min. Default 1 s, what a shed
    /// client is asked to wait (`Retry-After: 1`).
    pub window: Duration,
    /// K, in tenths: calls are held back once fewer than one in K is accepted; 11 to 100. Default 20, half.
    pub multiplier_tenths: u64,
    /// The highest share of calls held back, in per cent; 1 to 99. Default 90, so that the peer is always asked.
    pub most_percent: u64,
    /// So many throttled calls, beyond what the accepted ones make good, are forgiven before any is held back; 1 to 10,000.
    /// Default 20, as many as the breaker needs to judge.
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

/// A throttled call, in the unit of the balance; an accepted one is worth this times K less one.
const CALL: u64 = 10;
/// What one call of debt leaves of the share that is sent. Larger steps come back sooner after an overload and waver more
/// during one; with this, from a tenth to all takes ten accepted calls.
const KEPT: f64 = 0.8;

/// A throttle as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ThrottleSnapshot {
    /// The share of calls that is held back now, in per cent.
    pub held_back_percent: u32,
    /// Calls the peer has answered in the window.
    pub answered: u64,
    /// Those of them that it throttled.
    pub throttled: u64,
}

#[derive(Debug)]
pub(crate) struct Shared {
    peer: Arc<str>,
    config: ThrottleConfig,
    random: Random,
    /// `a` answers, `b` those that said the peer had no room: for events and errors only.
    window: Window<SLOTS>,
    balance: Balance,
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
    /// To watch it without keeping it.
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

    /// Whether this call is held back, and by what numbers.
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
            // Never reached the peer, or never heard of again.
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
            loudness: Loudness::Info,
        }
        .record(context);
        CallError::HeldBack { peer: Arc::clone(&self.peer), refused: counts.b, requests: counts.a }
    }
}

/// What the peer has accepted against what it has throttled. One atomic, kept above zero: `level` less `zero` is the
/// balance.
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

    /// No debt, and no credit either: if the peer throttles again, that counts at once.
    pub(crate) fn forgive(&self) {
        if self.level.load(Ordering::Relaxed) < self.zero {
            self.change(|level| level.max(self.zero));
        }
    }

    pub(crate) fn throttled(&self) {
        self.change(|level| level.saturating_sub(CALL));
    }

    pub(crate) fn accepted(&self) {
        // The usual case writes nothing.
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
        let state = if let Some(counts) = self.shared.holds_back() {
            let error = self.shared.refuse(counts, request.extensions().get());
            State::Rejected { error: Some(error) }
        } else {
            // Work that fails by itself says nothing of the room for others.
            let counted = (!RepeatedWork::marks(&request)).then(|| Arc::clone(&self.shared));
            State::Running { call: self.inner.call(request), counted }
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
