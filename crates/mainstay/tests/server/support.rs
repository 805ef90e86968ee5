//! Shared parts of the server tests: a stack over a closure, and its requests.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use mainstay::limit::QueueConfig;
use mainstay::server::body_limit::LimitedBody;
use mainstay::server::read_body::ReceivedBody;
use mainstay::server::{LimitConfig, ServerConfig, ServerService, ServerStack, stack};
use serde_json::Value;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt as _};

pub(crate) use crate::recorder::Recorder;

/// The request that a handler gets.
pub(crate) type Asked = Request<ReceivedBody<LimitedBody<Full<Bytes>>>>;
pub(crate) type Inner = BoxCloneSyncService<Asked, Response<Full<Bytes>>, Infallible>;
pub(crate) type Stacked = ServerService<Inner>;
pub(crate) type Reply = <Stacked as Service<Request<Full<Bytes>>>>::Response;

/// A service made from a closure.
pub(crate) fn service<F, Fut>(handler: F) -> Inner
where
    F: Fn(Asked) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    BoxCloneSyncService::new(tower::service_fn(move |request| {
        let reply = handler(request);
        async move { Ok(reply.await) }
    }))
}

/// A reply 200 with a short body.
pub(crate) fn ok() -> Response<Full<Bytes>> {
    Response::new(Full::from("ok"))
}

/// A stack that admits `limit` requests at the same time and queues at most `queue`.
pub(crate) fn limited(limit: usize, queue: usize) -> ServerStack {
    stack(config(limit, queue)).unwrap()
}

pub(crate) fn config(limit: usize, queue: usize) -> ServerConfig {
    ServerConfig::default()
        .limit(LimitConfig::Fixed(limit))
        .queue(QueueConfig::default().capacity(Some(queue)))
}

/// A request with these headers and without a body.
pub(crate) fn request(headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    let mut builder = Request::get("/");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::default()).unwrap()
}

/// Sends one request through a clone, as a server does for each connection.
pub(crate) async fn send(service: &Stacked, headers: &[(&'static str, &str)]) -> Reply {
    service.clone().oneshot(request(headers)).await.unwrap()
}

/// The body as JSON, or as a string when it is not JSON.
pub(crate) async fn body(reply: Reply) -> Value {
    let bytes = reply.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into())
}

/// The last part of a problem's type.
pub(crate) async fn problem(reply: Reply) -> String {
    let body = body(reply).await;
    body["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned()
}

/// Counts the requests inside a handler: now, and the highest number so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crowd(Arc<(AtomicUsize, AtomicUsize)>);

impl Crowd {
    pub(crate) fn enter(&self) -> Present {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Present(self.clone())
    }

    pub(crate) fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
pub(crate) struct Present(Crowd);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}
