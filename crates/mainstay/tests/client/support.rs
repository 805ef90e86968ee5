//! Shared parts of the client tests: a scripted peer, and stacks in front of it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use mainstay::budget::RetryBudget;
use mainstay::client::{self, ClientConfig, ClientRequest, ClientStack};
use mainstay::headers::IDEMPOTENCY_KEY;
use mainstay::{CallError, Endpoint, RequestContext};
use tokio::time::Instant;
use tower::{Service, ServiceExt as _};

pub(crate) const HOST: &str = "10.0.0.1:8081";
pub(crate) type Called = Result<Response<Bytes>, CallError>;

/// The peer's reaction to one request.
#[derive(Debug, Clone)]
pub(crate) enum Do {
    /// Answers with this status.
    Reply(u16),
    /// Answers with this status and `X-Outcome`.
    Says(u16, &'static str),
    /// Answers 503 `not-executed` with this `Retry-After` in seconds.
    ComeBackAfter(u64),
    /// Refuses the connection.
    Refuse,
    /// Loses the connection after the request was sent.
    Lose,
    /// Never answers.
    Hang,
    /// Reacts in the second way after this delay.
    After(Duration, Box<Do>),
}

impl Do {
    pub(crate) fn after_ms(ms: u64, then: Self) -> Self {
        Self::After(Duration::from_millis(ms), Box::new(then))
    }
}

/// One request as the peer saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn deadline_ms(&self) -> u64 {
        self.header("x-deadline-ms").parse().unwrap()
    }
}

/// A peer that follows its script, and repeats the script's last line for ever.
#[derive(Debug, Clone)]
pub(crate) struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    script: Mutex<VecDeque<Do>>,
    seen: Mutex<Vec<Seen>>,
    inside: AtomicUsize,
    most: AtomicUsize,
    routes: Option<(&'static str, Peer, Peer)>,
}

impl Inner {
    fn new(script: impl IntoIterator<Item = Do>) -> Self {
        Self {
            script: Mutex::new(script.into_iter().collect()),
            seen: Mutex::default(),
            inside: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            routes: None,
        }
    }
}

impl Peer {
    pub(crate) fn script(script: impl IntoIterator<Item = Do>) -> Self {
        Self(Arc::new(Inner::new(script)))
    }

    /// Sends requests for `host` to one peer and all others to the other.
    pub(crate) fn by_host(host: &'static str, this: &Self, other: &Self) -> Self {
        let mut both = Inner::new([]);
        both.routes = Some((host, this.clone(), other.clone()));
        Self(Arc::new(both))
    }

    pub(crate) fn always(what: Do) -> Self {
        Self::script([what])
    }

    /// Replaces the script.
    pub(crate) fn turn(&self, script: impl IntoIterator<Item = Do>) {
        *self.0.script.lock().unwrap() = script.into_iter().collect();
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.0.seen.lock().unwrap().len()
    }

    /// Requests in progress.
    pub(crate) fn inside(&self) -> usize {
        self.0.inside.load(Ordering::SeqCst)
    }

    /// The highest number of requests in progress so far.
    pub(crate) fn most(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }
}

struct Inside(Arc<Inner>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service<ClientRequest> for Peer {
    type Response = Response<Bytes>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Called> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ClientRequest) -> Self::Future {
        if let Some((host, this, other)) = &self.0.routes {
            let meant = request.uri().authority().is_some_and(|authority| authority.as_str() == *host);
            return if meant { this.clone().call(request) } else { other.clone().call(request) };
        }
        let mut script = self.0.script.lock().unwrap();
        let act = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
        drop(script);
        let seen = Seen { at: Instant::now(), headers: request.headers().clone() };
        self.0.seen.lock().unwrap().push(seen);
        let now = self.0.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(now, Ordering::SeqCst);
        let inside = Inside(Arc::clone(&self.0));
        let endpoint = Endpoint::of(request.uri()).unwrap();
        Box::pin(async move {
            let _inside = inside;
            act_out(act.expect("a script has a line"), endpoint).await
        })
    }
}

async fn act_out(act: Do, endpoint: Endpoint) -> Called {
    let cause = || Arc::new(std::io::Error::other("failure from the script"));
    match act {
        Do::Reply(status) => Ok(reply(status)),
        Do::Says(status, outcome) => {
            let mut reply = reply(status);
            reply.headers_mut().insert("x-outcome", outcome.parse().unwrap());
            Ok(reply)
        }
        Do::ComeBackAfter(secs) => {
            let mut reply = reply(503);
            reply.headers_mut().insert("x-outcome", "not-executed".parse().unwrap());
            reply.headers_mut().insert("retry-after", secs.into());
            Ok(reply)
        }
        Do::Refuse => Err(CallError::Connect { endpoint, cause: cause() }),
        Do::Lose => Err(CallError::ConnectionLost { endpoint, cause: cause() }),
        Do::Hang => std::future::pending().await,
        Do::After(wait, then) => {
            tokio::time::sleep(wait).await;
            Box::pin(act_out(*then, endpoint)).await
        }
    }
}

fn reply(status: u16) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::from_static(b"body")).unwrap()
}

/// The default settings with a seed, so that every run draws the same random numbers.
pub(crate) fn config() -> ClientConfig {
    ClientConfig::new("inventory").seed(Some(7))
}

pub(crate) fn stack(config: ClientConfig, peer: &Peer) -> ClientStack<Peer> {
    client::stack(config, peer.clone()).unwrap()
}

pub(crate) fn get_from(host: &str) -> ClientRequest {
    Request::get(format!("http://{host}/v1/items")).body(Full::default()).unwrap()
}

pub(crate) fn get() -> ClientRequest {
    get_from(HOST)
}

pub(crate) fn post() -> ClientRequest {
    Request::post(format!("http://{HOST}/v1/reservations")).body(Full::from("{}")).unwrap()
}

pub(crate) fn post_with_key() -> ClientRequest {
    let mut request = post();
    request.headers_mut().insert(IDEMPOTENCY_KEY, "0123456789abcdef".parse().unwrap());
    request
}

pub(crate) trait With: Sized {
    /// The request with this context.
    fn with(self, context: &RequestContext) -> Self;

    /// The request with a context that has `ms` milliseconds left.
    fn within_ms(self, ms: u64) -> Self {
        self.with(&RequestContext::background(Duration::from_millis(ms)))
    }
}

impl With for ClientRequest {
    fn with(mut self, context: &RequestContext) -> Self {
        self.extensions_mut().insert(context.clone());
        self
    }
}

pub(crate) trait DepositMany {
    /// Deposits `count` good answers.
    fn deposit_many(&self, count: usize);
}

impl DepositMany for RetryBudget {
    fn deposit_many(&self, count: usize) {
        (0..count).for_each(|_| self.deposit(Instant::now()));
    }
}

pub(crate) async fn call(stack: &ClientStack<Peer>, request: ClientRequest) -> Called {
    stack.clone().oneshot(request).await
}

/// Polls a call once, so that it starts.
pub(crate) async fn begin<F: Future + Unpin>(call: &mut F) {
    std::future::poll_fn(|cx| {
        assert!(Pin::new(&mut *call).poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}
