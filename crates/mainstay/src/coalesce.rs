//! Request coalescing: identical reads that are under way at the same time share one call, so that a cache that has just
//! been emptied, or a page that everybody opens, costs the peer one request and not a thousand.
//!
//! Not part of the assembled stack; put it outside:
//!
//! * Calls are the same when method, URI, `Authorization` and `Accept` are, so nobody is given what another principal may
//!   see. Only safe methods are shared.
//! * A call is joined only if it may still run for half as long as the joiner would wait. All of it would mean that calls
//!   with the same timeout, each begun a little after the other, are never shared; so a joiner may be told that time is up
//!   when up to half of its own is left.
//! * Whoever leaves leaves alone; the call ends when nobody waits for it any more.
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

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use http::{HeaderValue, Method, Request, Response, Uri, header};
use metrics::{Counter, counter};
use pin_project_lite::pin_project;
use tower::util::Oneshot;
use tower::{Layer, Service};

use crate::client::names;
use crate::decision::{Decided, Loudness};
use crate::{CallError, Deadline, RequestContext};

type Answer = Result<Response<Bytes>, CallError>;
type Flight = Shared<BoxFuture<'static, Answer>>;

/// What makes two reads the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    method: Method,
    uri: Uri,
    authorization: Option<HeaderValue>,
    accept: Option<HeaderValue>,
}

impl Key {
    fn of<B>(request: &Request<B>) -> Option<Self> {
        request.method().is_safe().then(|| Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            authorization: request.headers().get(header::AUTHORIZATION).cloned(),
            accept: request.headers().get(header::ACCEPT).cloned(),
        })
    }
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    call: WeakShared<BoxFuture<'static, Answer>>,
    /// How long it may run; `None` for as long as it takes.
    deadline: Option<Deadline>,
}

#[derive(Debug)]
struct State {
    peer: Arc<str>,
    joined: Counter,
    /// As many entries as calls under way: each is removed when its call ends or is given up.
    calls: Mutex<HashMap<Key, UnderWay>>,
    numbers: AtomicU64,
}

impl State {
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
        let (calls, numbers) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(State { peer: peer.into(), joined, calls, numbers }))
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
        let Some(key) = Key::of(&request) else {
            return CoalesceFuture { call: Call::Alone { call: self.inner.call(request) } };
        };
        let context = request.extensions().get::<RequestContext>();
        let deadline = context.map(|context| context.deadline);
        let mut calls = self.state.calls();
        if let Some(call) = calls.get(&key).and_then(|under_way| under_way.joinable(deadline)) {
            drop(calls);
            self.state.joined.increment(1);
            let (peer, why) = (Some(&*self.state.peer), "the same read is under way");
            let loudness = Loudness::Debug;
            Decided { layer: "coalesce", action: "join", why, peer, endpoint: None, loudness }
                .record(context);
            return CoalesceFuture { call: Call::Together { call } };
        }
        let number = self.state.numbers.fetch_add(1, Ordering::Relaxed);
        let ended = Ended { key: key.clone(), number, state: Arc::clone(&self.state) };
        // The service that was made ready makes the call, once polled: nothing foreign runs under the lock.
        let next = self.inner.clone();
        let call = Oneshot::new(std::mem::replace(&mut self.inner, next), request);
        let call = async move {
            let _ended = ended;
            call.await.map_err(Into::into)
        };
        let call = call.boxed().shared();
        if let Some(weak) = call.downgrade() {
            calls.insert(key, UnderWay { number, call: weak, deadline });
        }
        drop(calls);
        CoalesceFuture { call: Call::Together { call } }
    }
}

impl UnderWay {
    fn joinable(&self, deadline: Option<Deadline>) -> Option<Flight> {
        let long_enough = match (self.deadline, deadline) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(its), Some(mine)) => its.remaining() >= mine.remaining() / 2,
        };
        if long_enough { self.call.upgrade() } else { None }
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
            CallProj::Together { call } => call.poll(cx),
        }
    }
}
