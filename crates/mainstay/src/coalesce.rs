//! Request coalescing: identical reads that are under way at the same time share one call, so that a cache that has just
//! been emptied, or a page that everybody opens, costs the peer one request and not a thousand.
//!
//! Not part of the assembled stack; put it outside:
//!
//! * Calls are the same when method, URI and all headers are, but for those that this crate puts on a request: nobody is
//!   given what another principal may see, or another range or version of it. Only safe methods are shared, and none that
//!   announces a body.
//! * A call is joined only if it may still run for half as long as the joiner would wait. All of it would mean that calls
//!   with the same timeout, each begun a little after the other, are never shared; so a joiner may be told that time is up
//!   when up to half of its own is left.
//! * A call of lower priority is not joined, since the peer may shed it; neither is a repeat ([`RepeatedWork`]), which is
//!   not retried. A joiner gets what the [reader](crate::client::ReplyReader) of the first caller made of the reply.
//! * Nobody waits for longer than its own deadline, and whoever leaves leaves alone; the call ends when nobody waits for it
//!   any more.
//! * A transport that panics fails the call for all who wait for it.
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

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use http::{HeaderMap, Method, Request, Response, Uri, header};
use metrics::{Counter, counter};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::util::Oneshot;
use tower::{Layer, Service};

use crate::client::names;
use crate::context::Party;
use crate::context::Priority;
use crate::decision::{Concerns, Decided, Loudness};
use crate::headers::{TRACEPARENT, TRACESTATE, X_ATTEMPT, X_CORRELATION_ID, X_DEADLINE_MS, X_PRIORITY};
use crate::{CallError, Deadline, RepeatedWork, RequestContext, clock};

type Answer = Result<Response<Bytes>, CallError>;
type Flight = Shared<BoxFuture<'static, Answer>>;

/// What makes two reads the same.
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
        // What differs in its headers only is told apart by comparing.
        (&self.method, &self.uri).hash(state);
    }
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    call: WeakShared<BoxFuture<'static, Answer>>,
    /// How long it may run; `None` for as long as it takes.
    deadline: Option<Deadline>,
    /// How much it matters to the peer.
    priority: Priority,
}

#[derive(Debug)]
struct State {
    peer: Arc<str>,
    joined: Counter,
    timeouts: Counter,
    /// As many entries as calls under way: each is removed when its call ends or is given up.
    calls: Mutex<HashMap<Key, UnderWay>>,
    numbers: AtomicU64,
}

impl State {
    fn decided(&self, action: &'static str, why: Cow<'static, str>, whose: Option<&impl Concerns>) {
        let (layer, peer, loudness) = ("coalesce", Some(&*self.peer), Loudness::Debug);
        Decided { layer, action, why, peer, endpoint: None, loudness }.record(whose);
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Key, UnderWay>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shares identical reads. Layers cloned from one, and services made from them, share the calls under way.
#[derive(Debug, Clone)]
pub struct CoalesceLayer(Arc<State>);

impl CoalesceLayer {
    /// For calls to `peer`.
    pub fn new(peer: &str) -> Self {
        let joined = counter!(names::COALESCED, "peer" => peer.to_owned());
        let timeouts = counter!(names::TIMEOUTS, "peer" => peer.to_owned(), "limit" => "joined");
        let (calls, numbers) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(State { peer: peer.into(), joined, timeouts, calls, numbers }))
    }

    /// Shared calls under way now.
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

/// See [`CoalesceLayer`].
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
        // A first try that joins a repeat would neither be retried nor vote.
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
            self.state.decided("join", "the same read is under way".into(), context);
            let wait = context.map(|context| Wait::of(&self.state, context));
            return CoalesceFuture { call: Call::Together { call, wait } };
        }
        let number = self.state.numbers.fetch_add(1, Ordering::Relaxed);
        let ended = Ended { key: key.clone(), number, state: Arc::clone(&self.state) };
        // The service that was made ready makes the call, once polled: nothing foreign runs under the lock.
        let next = self.inner.clone();
        let call = Oneshot::new(std::mem::replace(&mut self.inner, next), request);
        let call = async move {
            let _ended = ended;
            // A panic that passed through the shared call would leave those who wait for it asleep.
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
        // Its own deadline is kept by the stack inside, as it would be without this layer.
        CoalesceFuture { call: Call::Together { call, wait: None } }
    }
}

/// The transport panicked while a call was shared. What the peer has done is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the transport panicked")]
pub struct Panicked;

/// How long a joiner waits for a call that may run for longer.
#[derive(Debug)]
struct Wait {
    began: Instant,
    timer: Pin<Box<Sleep>>,
    whose: Party,
    state: Arc<State>,
}

impl Wait {
    fn of(state: &Arc<State>, context: &RequestContext) -> Self {
        let timer = Box::pin(sleep_until(context.deadline.instant()));
        Self { began: clock::now(), timer, whose: context.into(), state: Arc::clone(state) }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CallError> {
        ready!(self.timer.as_mut().poll(cx));
        let after = clock::now().saturating_duration_since(self.began);
        self.state.timeouts.increment(1);
        let why = format!("the call that was joined took longer than {} ms", after.as_millis());
        self.state.decided("cut_off", why.into(), Some(&self.whose));
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

/// Takes its call from the list when that has ended, or nobody waits for it any more.
#[derive(Debug)]
struct Ended {
    key: Key,
    number: u64,
    state: Arc<State>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Entry::Occupied(entry) = self.state.calls().entry(self.key.clone())
            // A later call of the same key, made for a longer deadline, stays.
            && entry.get().number == self.number
        {
            entry.remove();
        }
    }
}

pin_project! {
    /// A call, alone or together with others. Dropping it drops the call only if nobody else waits for it.
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
