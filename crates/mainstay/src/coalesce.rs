//! Request coalescing: identical reads that run at the same time share one call. When a cache has just been emptied,
//! or many users open the same page, the peer gets one request and not a thousand.
//!
//! The layer is not part of the assembled stack; put it outside the stack:
//!
//! * Two calls are identical when method, URI and all headers are equal, except the headers that this crate adds. So
//!   no caller gets a reply meant for another principal, or another range or version of it. Only safe methods are
//!   shared, and only without an announced body.
//! * A call is joined only if it may still run for at least half as long as the joiner would wait. If the rule
//!   demanded all of that time, calls with the same timeout that begin one after the other would never be shared. So
//!   a joiner may get a timeout while up to half of its own time is left.
//! * A call of lower priority is not joined, because the peer may shed it. A repeat ([`RepeatedWork`]) is not joined,
//!   because it is not retried. A joiner gets the reply as the first caller's [reader](crate::client::ReplyReader)
//!   has read it.
//! * Each caller waits until its own deadline at most, and a caller that leaves does not disturb the others. The call
//!   ends when no caller waits for it any more.
//! * A transport that panics fails the call for every caller that waits for it.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use mainstay::{CallError, coalesce::CoalesceLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let peer = service_fn(|_: Request<Bytes>| async { Ok::<_, CallError>(Response::new(Bytes::new())) });
//! let client = CoalesceLayer::new("inventory").layer(peer);
//! let read = || Request::get("http://127.0.0.1/v1/items").body(Bytes::new());
//! let (one, other) = tokio::join!(client.clone().oneshot(read()?), client.clone().oneshot(read()?));
//! assert!(one.is_ok() && other.is_ok());
//! # Ok(())
//! # }
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use crate::metric::{Counter, counter};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use http::{HeaderMap, Method, Request, Response, Uri, header};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::util::Oneshot;
use tower::{Layer, Service};

use crate::client_names as names;
use crate::context::Priority;
use crate::context::RequestSummary;
use crate::decision::{Decided, HasRequestIdentity, Level};
use crate::headers::{TRACEPARENT, TRACESTATE, X_ATTEMPT, X_CORRELATION_ID, X_DEADLINE_MS, X_PRIORITY};
use crate::{CallError, Deadline, RepeatedWork, RequestContext, clock};

type Answer = Result<Response<Bytes>, CallError>;
type Flight = Shared<BoxFuture<'static, Answer>>;

/// Key of a read: two reads with equal keys are identical.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Key {
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let announced = request.headers();
        let has_body = announced.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
            || announced.contains_key(header::TRANSFER_ENCODING);
        if has_body || !request.method().is_safe() {
            return None;
        }
        let mut headers = announced.clone();
        for ours in [X_CORRELATION_ID, X_DEADLINE_MS, X_ATTEMPT, X_PRIORITY, TRACEPARENT, TRACESTATE] {
            headers.remove(ours);
        }
        Some(Self { method: request.method().clone(), uri: request.uri().clone(), headers })
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Reads that differ only in their headers get the same hash and a comparison distinguishes them.
        (&self.method, &self.uri).hash(state);
    }
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    call: WeakShared<BoxFuture<'static, Answer>>,
    /// The call's deadline; `None` when it has none.
    deadline: Option<Deadline>,
    /// The call's priority at the peer.
    priority: Priority,
}

#[derive(Debug)]
struct State {
    peer: Arc<str>,
    joined: Counter,
    timeouts: Counter,
    /// The shared calls in flight. Each entry is removed when its call ends or is dropped.
    calls: Mutex<HashMap<Key, UnderWay>>,
    numbers: AtomicU64,
}

impl State {
    fn decided(
        &self,
        action: &'static str,
        why: Cow<'static, str>,
        summary: Option<&impl HasRequestIdentity>,
    ) {
        let (layer, peer, level) = ("coalesce", Some(&*self.peer), Level::Debug);
        Decided { layer, action, why, peer, endpoint: None, level }.record(summary);
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Key, UnderWay>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Layer that shares identical reads. Clones of the layer, and services made from them, share the calls in flight.
#[derive(Debug, Clone)]
pub struct CoalesceLayer(Arc<State>);

impl CoalesceLayer {
    /// A layer for calls to `peer`.
    pub fn new(peer: &str) -> Self {
        let joined = counter!(names::COALESCED, "peer" => peer.to_owned());
        let timeouts = counter!(names::TIMEOUTS, "peer" => peer.to_owned(), "limit" => "joined");
        let (calls, numbers) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(State { peer: peer.into(), joined, timeouts, calls, numbers }))
    }

    /// Shared calls that are in flight now.
    pub fn under_way(&self) -> usize {
        self.0.calls().len()
    }
}

impl<S> Layer<S> for CoalesceLayer {
    type Service = Coalesce<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Coalesce { inner, state: Arc::clone(&self.0) }
    }
}

/// The service of [`CoalesceLayer`].
#[derive(Debug, Clone)]
pub struct Coalesce<S> {
    inner: S,
    state: Arc<State>,
}

impl<S, B> Service<Request<B>> for Coalesce<S>
where
    S: Service<Request<B>, Response = Response<Bytes>> + Clone + Send + 'static,
    S::Error: Into<CallError> + Send,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<Bytes>;
    type Error = CallError;
    type Future = CoalesceFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // A repeat is not shared: a first try that joined it would neither be retried nor counted by the breaker.
        let key = if RepeatedWork::marks(&request) { None } else { Key::of(&request) };
        let Some(key) = key else {
            return CoalesceFuture { call: Call::Alone { call: self.inner.call(request) } };
        };
        let context = request.extensions().get::<RequestContext>();
        let deadline = context.map(|context| context.deadline);
        let priority = context.map_or_else(Priority::default, |context| context.priority);
        let mut calls = self.state.calls();
        if let Some(call) = calls.get(&key).and_then(|under_way| under_way.joinable(deadline, priority)) {
            drop(calls);
            self.state.joined.increment(1);
            self.state.decided("join", "an identical read is in flight".into(), context);
            let wait = context.map(|context| Wait::of(&self.state, context));
            return CoalesceFuture { call: Call::Together { call, wait } };
        }
        let number = self.state.numbers.fetch_add(1, Ordering::Relaxed);
        let ended = Ended { key: key.clone(), number, state: Arc::clone(&self.state) };
        // The ready service makes the call when it is polled, so that no foreign code runs under the lock.
        let next = self.inner.clone();
        let call = Oneshot::new(std::mem::replace(&mut self.inner, next), request);
        let call = async move {
            let _ended = ended;
            // Catch a panic here: if it passed through the shared call, the other callers would never be woken.
            match AssertUnwindSafe(call).catch_unwind().await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(CallError::Transport(Arc::new(Panicked))),
            }
        };
        let call = call.boxed().shared();
        if let Some(weak) = call.downgrade() {
            calls.insert(key, UnderWay { number, call: weak, deadline, priority });
        }
        drop(calls);
        // The stack inside enforces the first caller's own deadline, as it would without this layer.
        CoalesceFuture { call: Call::Together { call, wait: None } }
    }
}

/// The transport panicked while a call was shared. The call's effect at the peer is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the transport panicked")]
pub struct Panicked;

/// A joiner's wait for a call that may run for longer than the joiner's deadline.
#[derive(Debug)]
struct Wait {
    began: Instant,
    timer: Pin<Box<Sleep>>,
    summary: RequestSummary,
    state: Arc<State>,
}

impl Wait {
    fn of(state: &Arc<State>, context: &RequestContext) -> Self {
        let timer = Box::pin(sleep_until(context.deadline.instant()));
        Self { began: clock::now(), timer, summary: context.into(), state: Arc::clone(state) }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CallError> {
        ready!(self.timer.as_mut().poll(cx));
        let after = clock::now().saturating_duration_since(self.began);
        self.state.timeouts.increment(1);
        let why = format!("the joined call took longer than {} ms", after.as_millis());
        self.state.decided("cut_off", why.into(), Some(&self.summary));
        Poll::Ready(CallError::DeadlineExceeded { after })
    }
}

impl UnderWay {
    fn joinable(&self, deadline: Option<Deadline>, priority: Priority) -> Option<Flight> {
        let long_enough = match (self.deadline, deadline) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(its), Some(mine)) => its.remaining() >= mine.remaining() / 2,
        };
        if long_enough && self.priority >= priority { self.call.upgrade() } else { None }
    }
}

/// Removes its call from the list when the call has ended or no caller waits for it any more.
#[derive(Debug)]
struct Ended {
    key: Key,
    number: u64,
    state: Arc<State>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Entry::Occupied(entry) = self.state.calls().entry(self.key.clone())
            // Keep a later call of the same key, which was made for a longer deadline.
            && entry.get().number == self.number
        {
            entry.remove();
        }
    }
}

pin_project! {
    /// A call, alone or shared. Dropping it drops the call only if no other caller waits for it.
    #[derive(Debug)]
    pub struct CoalesceFuture<F> {
        #[pin]
        call: Call<F>,
    }
}

pin_project! {
    #[project = CallProj]
    #[derive(Debug)]
    enum Call<F> {
        Alone {
            #[pin]
            call: F,
        },
        Together {
            #[pin]
            call: Flight,
            wait: Option<Wait>,
        },
    }
}

impl<F, E> Future for CoalesceFuture<F>
where
    F: Future<Output = Result<Response<Bytes>, E>>,
    E: Into<CallError>,
{
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().call.project() {
            CallProj::Alone { call } => call.poll(cx).map_err(Into::into),
            CallProj::Together { call, wait } => {
                if let Poll::Ready(answer) = call.poll(cx) {
                    return Poll::Ready(answer);
                }
                wait.as_mut().map_or(Poll::Pending, |wait| wait.poll(cx).map(Err))
            }
        }
    }
}
