//! The no-op service, its requests, and the loop that calls it.

use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use mainstay::{CallError, DecisionTrail, RequestContext};
use tower::{Service, ServiceExt as _};

use crate::{Baseline, Instance};

pub type Req = Request<Full<Bytes>>;

/// Error of the no-op service for the peers' layers.
#[derive(Debug, Clone, Copy)]
pub struct Boom;

impl std::fmt::Display for Boom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("boom")
    }
}

impl std::error::Error for Boom {}

/// An error that the no-op service can create.
pub trait Failure {
    fn make() -> Self;
}

impl Failure for Boom {
    fn make() -> Self {
        Self
    }
}

impl Failure for CallError {
    fn make() -> Self {
        Self::AttemptTimedOut { after: Duration::from_secs(1) }
    }
}

/// No-op service: it answers at once, and fails for the method DELETE.
#[derive(Debug)]
pub struct Noop<E, B = Bytes>(PhantomData<fn() -> (E, B)>);

impl<E, B> Noop<E, B> {
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E, B> Default for Noop<E, B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E, B> Clone for Noop<E, B> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<E: Failure, B: Default, Q> Service<Request<Q>> for Noop<E, B> {
    type Response = Response<B>;
    type Error = E;
    type Future = std::future::Ready<Result<Response<B>, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let fails = request.method() == Method::DELETE;
        std::future::ready(if fails { Err(E::make()) } else { Ok(Response::new(B::default())) })
    }
}

static URI: LazyLock<Uri> = LazyLock::new(|| Uri::from_static("http://127.0.0.1:8081/v1/items"));

fn plain() -> Req {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = URI.clone();
    request
}

pub fn failing() -> Req {
    let mut request = plain();
    *request.method_mut() = Method::DELETE;
    request
}

fn incoming() -> Req {
    let mut request = plain();
    let headers = request.headers_mut();
    headers.insert("x-correlation-id", HeaderValue::from_static("01a1fdec-76d4-7238-99cc-35a178b0e676"));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    headers.insert("traceparent", HeaderValue::from_static(parent));
    request
}

/// A function that creates the requests of a run.
pub fn requests(baseline: Baseline) -> impl FnMut() -> Req {
    // A deadline far beyond the length of a run.
    let day = Duration::from_hours(24);
    let context = (baseline == Baseline::Context).then(|| RequestContext::background(day));
    move || match (&context, baseline) {
        (Some(context), _) => {
            let mut request = plain();
            // Each request has its own decision trail. The rest of the context is that of the request that caused it.
            let context = RequestContext { trail: DecisionTrail::new(), ..context.clone() };
            request.extensions_mut().insert(context);
            request
        }
        (None, Baseline::Incoming) => incoming(),
        (None, _) => plain(),
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the operating system gives a descriptor for the runtime's reactor")
}

/// Calls `service` `calls` times. Every call must succeed if `succeeds` is true, and fail otherwise.
pub async fn drive<S>(mut service: S, calls: usize, succeeds: bool, mut request: impl FnMut() -> Req)
where
    S: Service<Req>,
{
    for _ in 0..calls {
        let result = match service.ready().await {
            Ok(ready) => ready.call(black_box(request())).await,
            Err(error) => Err(error),
        };
        assert_eq!(black_box(&result).is_ok(), succeeds, "a call must succeed: {succeeds}");
    }
}

/// An instance of a service whose calls succeed. Each run uses a clone, as each connection of a server does.
pub fn shared<S>(service: S, baseline: Baseline) -> Instance
where
    S: Service<Req> + Clone + Send + 'static,
{
    let service = Mutex::new(service);
    Arc::new(move |calls| {
        let clone = service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        runtime().block_on(drive(clone, calls, true, requests(baseline)));
    })
}

/// An instance of a service that refuses every call.
pub fn refusing<S>(service: S, baseline: Baseline) -> Instance
where
    S: Service<Req> + Clone + Send + 'static,
{
    let service = Mutex::new(service);
    Arc::new(move |calls| {
        let clone = service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        runtime().block_on(drive(clone, calls, false, requests(baseline)));
    })
}

/// Makes `calls` failing calls, to open a breaker.
pub fn fail<S>(service: &S, calls: usize)
where
    S: Service<Req> + Clone,
{
    runtime().block_on(async {
        let mut service = service.clone();
        for _ in 0..calls {
            if let Ok(ready) = service.ready().await {
                drop(ready.call(failing()).await);
            }
        }
    });
}
