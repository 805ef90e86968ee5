//! The service that injects faults, for either side of a connection, and its named future.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::util::Oneshot;
use tower::{BoxError, Layer, Service};

use super::registry::{Faults, Hit};
use super::spec::{Fault, Loss};
use crate::decision::{Decided, Level};
use crate::problem::Effect;
use crate::{CallError, Endpoint, Problem, RequestContext};

/// The cause of an injected error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("injected fault")]
pub struct Injected;

/// The form that an injected failure takes on one side of a connection.
pub trait FaultSide<E> {
    /// A failure of the inner service, unchanged.
    fn inner(error: E) -> Self;
    /// No process listens at the endpoint; nothing was sent.
    fn refused(endpoint: Option<Endpoint>) -> Self;
    /// The connection closed before a reply.
    fn lost(endpoint: Option<Endpoint>) -> Self;
}

impl<E: Into<Self>> FaultSide<E> for CallError {
    fn inner(error: E) -> Self {
        error.into()
    }

    fn refused(endpoint: Option<Endpoint>) -> Self {
        let cause = Arc::new(Injected);
        match endpoint {
            Some(endpoint) => Self::Connect { endpoint, cause },
            None => Self::InvalidRequest { reason: "the URI has no host" },
        }
    }

    fn lost(endpoint: Option<Endpoint>) -> Self {
        let cause = Arc::new(Injected);
        match endpoint {
            Some(endpoint) => Self::ConnectionLost { endpoint, cause },
            None => Self::Transport(cause),
        }
    }
}

/// An HTTP server closes the connection when its service returns an error instead of a reply.
impl<E: Into<Self>> FaultSide<E> for BoxError {
    fn inner(error: E) -> Self {
        error.into()
    }

    fn refused(_: Option<Endpoint>) -> Self {
        Injected.into()
    }

    fn lost(_: Option<Endpoint>) -> Self {
        Injected.into()
    }
}

/// Layer that looks up faults under one name. The error type is the side of the connection: [`ClientFaultLayer`] or
/// [`ServerFaultLayer`].
pub struct FaultLayer<Side> {
    faults: Faults,
    name: Arc<str>,
    side: PhantomData<fn() -> Side>,
}

/// Faults in front of a transport: they pass through the outer layers as real faults would.
pub type ClientFaultLayer = FaultLayer<CallError>;
/// Faults in front of a server's routes. The layer returns an error to close the connection, so put it outside of the
/// router, directly under the accept loop.
pub type ServerFaultLayer = FaultLayer<BoxError>;
/// The service of [`ClientFaultLayer`].
pub type ClientFault<S> = FaultService<S, CallError>;
/// The service of [`ServerFaultLayer`].
pub type ServerFault<S> = FaultService<S, BoxError>;

impl<Side> FaultLayer<Side> {
    /// A layer that injects the faults set in `faults` under `name`, and registers that name.
    pub fn new(faults: &Faults, name: &str) -> Self {
        faults.declare(name);
        crate::metric::describe_counter!(INJECTED, "Faults that were injected, by point and kind");
        for fault in ["latency", "error", "hang", "reply-lost", "garbage"] {
            crate::metric::counter!(INJECTED, "point" => name.to_owned(), "fault" => fault).increment(0);
        }
        Self { faults: faults.clone(), name: name.into(), side: PhantomData }
    }
}

impl<S, Side> Layer<S> for FaultLayer<Side> {
    type Service = FaultService<S, Side>;

    fn layer(&self, inner: S) -> Self::Service {
        let point = Some((self.faults.clone(), Arc::clone(&self.name)));
        FaultService { inner, point, side: PhantomData }
    }
}

/// The service of [`FaultLayer`].
pub struct FaultService<S, Side> {
    inner: S,
    point: Option<(Faults, Arc<str>)>,
    side: PhantomData<fn() -> Side>,
}

impl<S, Side> FaultService<S, Side> {
    /// A service that injects faults from `point`; `None` injects nothing.
    pub(crate) fn new(inner: S, point: Option<(Faults, String)>) -> Self {
        let point = point.map(|(faults, name)| {
            faults.declare(&name);
            (faults, name.into())
        });
        Self { inner, point, side: PhantomData }
    }
}

impl<S, Side, B, R> Service<Request<B>> for FaultService<S, Side>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    Side: FaultSide<S::Error>,
    R: From<Bytes>,
{
    type Response = Response<R>;
    type Error = Side;
    type Future = FaultFuture<S, Request<B>, Side>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Side::inner)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let hit = self.point.as_ref().and_then(|(faults, name)| {
            let hit = faults.draw(name, request.method(), request.uri().path())?;
            announce(name, &hit.fault, request.extensions().get());
            Some(hit)
        });
        let Some(Hit { fault, delay }) = hit else {
            return FaultFuture::calling(self.inner.call(request), After::Pass);
        };
        match fault {
            Fault::Latency { .. } => {
                let next = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, next);
                let call = Box::pin(Oneshot::new(service, request));
                let state = State::Late { sleep: tokio::time::sleep(delay), call, slept: false };
                FaultFuture { state }
            }
            Fault::Error { status: None, .. } => FaultFuture {
                state: State::Failed { error: Some(Side::refused(Endpoint::of(request.uri()))) },
            },
            Fault::Error { status: Some(status), effect } => {
                FaultFuture { state: State::Answered { status, effect } }
            }
            Fault::Hang => FaultFuture { state: State::Hanging },
            Fault::ReplyLost { how } => {
                let endpoint = Endpoint::of(request.uri());
                FaultFuture::calling(self.inner.call(request), After::Lose { how, endpoint })
            }
            Fault::Garbage => FaultFuture::calling(self.inner.call(request), After::Garble),
        }
    }
}

/// Faults that were injected, by `point` and `fault`.
const INJECTED: &str = "mainstay_faults_injected_total";

#[cold]
fn announce(name: &str, fault: &Fault, context: Option<&RequestContext>) {
    crate::metric::counter!(INJECTED, "point" => name.to_owned(), "fault" => fault.as_str()).increment(1);
    Decided {
        layer: "fault",
        action: fault.as_str(),
        why: "injected by an operator",
        peer: Some(name),
        endpoint: None,
        level: Level::Warn,
    }
    .record(context);
}

/// The treatment of the reply.
#[derive(Debug)]
enum After {
    Pass,
    Lose { how: Loss, endpoint: Option<Endpoint> },
    Garble,
}

pin_project! {
    /// A call, usually without a fault. Dropping it drops the call.
    pub struct FaultFuture<S, Q, Side>
    where
        S: Service<Q>,
    {
        #[pin]
        state: State<S, Q, Side>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Q, Side>
    where
        S: Service<Q>,
    {
        Calling {
            #[pin]
            call: S::Future,
            after: After,
        },
        Late {
            #[pin]
            sleep: Sleep,
            call: Pin<Box<Oneshot<S, Q>>>,
            slept: bool,
        },
        Answered { status: u16, effect: Option<Effect> },
        Failed { error: Option<Side> },
        Hanging,
    }
}

impl<S: Service<Q>, Q, Side> FaultFuture<S, Q, Side> {
    fn calling(call: S::Future, after: After) -> Self {
        Self { state: State::Calling { call, after } }
    }
}

impl<S, Q, Side, R> Future for FaultFuture<S, Q, Side>
where
    S: Service<Q, Response = Response<R>>,
    Side: FaultSide<S::Error>,
    R: From<Bytes>,
{
    type Output = Result<Response<R>, Side>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let result = match state.as_mut().project() {
            StateProj::Calling { call, after } => {
                let reply = ready!(call.poll(cx)).map_err(Side::inner);
                match after {
                    After::Pass => reply,
                    After::Lose { how: Loss::Reset, endpoint } => Err(Side::lost(endpoint.take())),
                    After::Lose { how: Loss::Hang, .. } => {
                        state.set(State::Hanging);
                        return Poll::Pending;
                    }
                    After::Garble => reply.map(garble),
                }
            }
            StateProj::Late { sleep, call, slept } => {
                if !*slept {
                    ready!(sleep.poll(cx));
                    *slept = true;
                }
                ready!(call.as_mut().poll(cx)).map_err(Side::inner)
            }
            StateProj::Answered { status, effect } => Ok(answer(*status, *effect)),
            StateProj::Failed { error } => {
                Err(error.take().expect("a future is not polled after it is ready"))
            }
            StateProj::Hanging => return Poll::Pending,
        };
        Poll::Ready(result)
    }
}

fn answer<R: From<Bytes>>(status: u16, effect: Option<Effect>) -> Response<R> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let problem = Problem::new(status, "injected-fault", "Injected fault");
    match effect {
        Some(effect) => problem.outcome(effect),
        None => problem,
    }
    .into_response()
}

/// Bytes that are neither JSON nor UTF-8.
fn garble<R: From<Bytes>>(reply: Response<R>) -> Response<R> {
    let mut reply = reply.map(|_| R::from(Bytes::from_static(b"\xff\xfe{\"truncated\": ")));
    reply.headers_mut().remove(http::header::CONTENT_LENGTH);
    reply
}

impl<Side> Clone for FaultLayer<Side> {
    fn clone(&self) -> Self {
        Self { faults: self.faults.clone(), name: Arc::clone(&self.name), side: PhantomData }
    }
}

impl<Side> std::fmt::Debug for FaultLayer<Side> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultLayer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<S: Clone, Side> Clone for FaultService<S, Side> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), point: self.point.clone(), side: PhantomData }
    }
}

impl<S: std::fmt::Debug, Side> std::fmt::Debug for FaultService<S, Side> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S: Service<Q>, Q, Side> std::fmt::Debug for FaultFuture<S, Q, Side> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.state {
            State::Calling { .. } => "FaultFuture::Calling",
            State::Late { .. } => "FaultFuture::Late",
            State::Answered { .. } => "FaultFuture::Answered",
            State::Failed { .. } => "FaultFuture::Failed",
            State::Hanging => "FaultFuture::Hanging",
        })
    }
}
