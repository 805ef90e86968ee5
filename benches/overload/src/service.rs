//! The dependency: so many workers, each busy for a fixed time with one request, and a first-come-first-served line in
//! front of them, as a database pool has. The time is waited for, not computed, so that two cores can carry ten times
//! its capacity.
//!
//! Work that was begun is finished even when its caller has left, as a statement is. What still waits is dropped with
//! its connection: that is hyper's doing, and more than a server with a thread for each request has.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mainstay::random::Random;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tower::service_fn;

use crate::arm::{Guard, Guarded, guard};
use crate::series::Series;

/// Requests worked on at once.
pub(crate) const WORKERS: usize = 8;
/// How long one takes. With eight workers 400 a second, less what the timer's grain of a millisecond costs.
pub(crate) const WORK: Duration = Duration::from_millis(20);
/// When the request's caller stops waiting, in microseconds of the laboratory's own clock. Only the laboratory reads
/// it, to judge by what it knows and not by what the service under test was told.
pub(crate) const GIVEN_UP_AT: &str = "x-lab-given-up-at";
/// Asks for the one key that everybody wants.
pub(crate) const HOT_PATH: &str = "/hot";

/// What is wrong with the dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Nothing,
    /// Its workers stand still: nothing is finished, and nothing is refused.
    Stalls,
    /// It answers every request at once with 500.
    Fails,
    /// It answers one request in three at once with 500, at random.
    FailsSome,
    /// It answers every request at once with 503, not executed.
    Sheds,
    /// Nobody listens.
    Refuses,
}

/// What all requests share.
pub(crate) struct State {
    workers: Arc<Semaphore>,
    work_micros: AtomicU64,
    trouble: watch::Sender<Trouble>,
    /// Only one request for the hot key is worked on at a time.
    hot: Option<Arc<Semaphore>>,
    pub(crate) arrivals: Series,
    base: Instant,
    /// Work begun.
    pub(crate) begun: AtomicU64,
    /// Work begun after its caller had given it up.
    pub(crate) begun_late: AtomicU64,
}

pub(crate) struct Service {
    pub(crate) state: Arc<State>,
    pub(crate) address: SocketAddr,
    guarded: Guarded,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Service {
    /// Listens, with `guarding` in front of the workers; `hot_lock` serializes the hot key.
    pub(crate) async fn start(guarding: Guard, base: Instant, hot_lock: bool) -> anyhow::Result<Self> {
        let state = Arc::new(State {
            workers: Arc::new(Semaphore::new(WORKERS)),
            work_micros: AtomicU64::new(u64::try_from(WORK.as_micros())?),
            trouble: watch::Sender::new(Trouble::Nothing),
            hot: hot_lock.then(|| Arc::new(Semaphore::new(1))),
            arrivals: Series::new(base),
            base,
            begun: AtomicU64::new(0),
            begun_late: AtomicU64::new(0),
        });
        let shared = Arc::clone(&state);
        let guarded = guard(guarding, &state.arrivals, move |request| handle(Arc::clone(&shared), request));
        let (listener, address) = bind().await?;
        let accepting = Mutex::new(Some(tokio::spawn(accept(listener, guarded.clone()))));
        Ok(Self { state, address, guarded, accepting })
    }

    /// From now on every request takes this long.
    pub(crate) fn takes(&self, work: Duration) {
        self.state.work_micros.store(u64::try_from(work.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// From now on this is wrong with it.
    pub(crate) async fn suffers(&self, trouble: Trouble) -> anyhow::Result<()> {
        self.state.trouble.send_replace(trouble);
        let accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if trouble == Trouble::Refuses {
            if let Some(task) = accepting {
                task.abort();
                drop(task.await);
            }
            return Ok(());
        }
        let task = match accepting {
            Some(task) => task,
            None => tokio::spawn(accept(TcpListener::bind(self.address).await?, self.guarded.clone())),
        };
        *self.accepting.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// A port below those that Linux takes for outgoing connections (from 32768): while nobody listens, a connection from
/// that very port to itself would succeed.
async fn bind() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let first = 21_000 + u16::try_from(std::process::id() % 5_000)?;
    for port in first..32_000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Ok(listener) = TcpListener::bind(address).await {
            return Ok((listener, address));
        }
    }
    anyhow::bail!("no free port from {first} to 31999")
}

/// Ends, with every connection, when it is aborted.
async fn accept(listener: TcpListener, guarded: Guarded) {
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("accept: {error}");
                sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        drop(stream.set_nodelay(true));
        let service = TowerToHyperService::new(guarded.clone());
        connections.spawn(async move {
            // A connection that its client closed is an everyday end.
            drop(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn handle(state: Arc<State>, request: Request<()>) -> Response<Full<Bytes>> {
    match *state.trouble.borrow() {
        Trouble::Fails => return reply(StatusCode::INTERNAL_SERVER_ERROR, None),
        Trouble::FailsSome if Random::shared().chance(1.0 / 3.0) => {
            return reply(StatusCode::INTERNAL_SERVER_ERROR, None);
        }
        Trouble::Sheds => return reply(StatusCode::SERVICE_UNAVAILABLE, Some("not-executed")),
        Trouble::Nothing | Trouble::FailsSome | Trouble::Stalls | Trouble::Refuses => {}
    }
    let given_up_at = request.headers().get(GIVEN_UP_AT).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let worker = Arc::clone(&state.workers).acquire_owned().await.expect("the semaphore is never closed");
    let lock = match &state.hot {
        Some(lock) if request.uri().path() == HOT_PATH => {
            Some(Arc::clone(lock).acquire_owned().await.expect("the semaphore is never closed"))
        }
        _ => None,
    };
    let now = u64::try_from(state.base.elapsed().as_micros()).unwrap_or(u64::MAX);
    state.begun.fetch_add(1, Ordering::Relaxed);
    if given_up_at.is_some_and(|at| now > at) {
        state.begun_late.fetch_add(1, Ordering::Relaxed);
    }
    let work = Duration::from_micros(state.work_micros.load(Ordering::Relaxed));
    let mut trouble = state.trouble.subscribe();
    let done = tokio::spawn(async move {
        sleep(work).await;
        let moving = trouble.wait_for(|now| *now != Trouble::Stalls).await.is_ok();
        drop((worker, lock));
        moving
    });
    match done.await {
        Ok(true) => reply(StatusCode::OK, None),
        Ok(false) | Err(_) => reply(StatusCode::INTERNAL_SERVER_ERROR, None),
    }
}

fn reply(status: StatusCode, outcome: Option<&'static str>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from("done"));
    *response.status_mut() = status;
    if let Some(outcome) = outcome {
        response.headers_mut().insert("x-outcome", http::HeaderValue::from_static(outcome));
        response.headers_mut().insert("retry-after", http::HeaderValue::from_static("1"));
    }
    response
}

/// What a handler is to the guard in front of it, whatever that makes of the body, which nobody reads.
pub(crate) fn handler<B, F, Fut>(
    handle: F,
) -> impl tower::Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static
where
    B: 'static,
    F: Fn(Request<()>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    service_fn(move |request: Request<B>| {
        let reply = handle(request.map(drop));
        async move { Ok(reply.await) }
    })
}
