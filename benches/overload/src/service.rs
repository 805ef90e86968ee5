//! The dependency: a fixed number of workers behind a first-come-first-served queue, like a database pool.
//!
//! A worker is busy for a fixed time with each request. It waits for that time instead of computing, so that two cores
//! can carry ten times the capacity.
//!
//! Work that has started is finished even if its caller has disconnected, like a database statement. A request that
//! still waits is dropped with its connection. hyper does that; a server with a thread for each request does not.

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

use crate::arm::{Guard, Guarded, guard};
use crate::series::Series;
use crate::settings::WORKERS;

/// Time of a worker for one request. Eight workers serve 400 requests a second, less the loss by the timer's
/// resolution of a millisecond.
pub(crate) const WORK: Duration = Duration::from_millis(20);
/// Header with the time at which the caller stops waiting, in microseconds of the laboratory's own clock.
///
/// Only the laboratory reads it. So it judges by the true deadline and not by the one that the service received.
pub(crate) const GIVEN_UP_AT: &str = "x-lab-given-up-at";
/// Path of a request for the hot key.
pub(crate) const HOT_PATH: &str = "/hot";

/// Fault of the dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Nothing,
    /// The workers stall: no request is finished and none is refused.
    Stalls,
    /// Every request is answered 500 at once.
    Fails,
    /// One request in three, at random, is answered 500 at once.
    FailsSome,
    /// Every request is answered 503 with the outcome not-executed at once.
    Sheds,
    /// The port is closed.
    Refuses,
}

/// State that all requests share.
pub(crate) struct State {
    workers: Arc<Semaphore>,
    work_micros: AtomicU64,
    trouble: watch::Sender<Trouble>,
    /// Lock that serializes the requests for the hot key, if they are serialized.
    hot: Option<Arc<Semaphore>>,
    pub(crate) arrivals: Series,
    base: Instant,
    /// Number of requests whose work started.
    pub(crate) started: AtomicU64,
    /// Number of requests whose work started after their deadline.
    pub(crate) started_late: AtomicU64,
}

pub(crate) struct Service {
    pub(crate) state: Arc<State>,
    pub(crate) address: SocketAddr,
    guarded: Guarded,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Service {
    /// Starts a service with the layers of `guarding` in front of the workers. `hot_lock` serializes the hot key.
    pub(crate) async fn start(guarding: Guard, base: Instant, hot_lock: bool) -> anyhow::Result<Self> {
        let state = Arc::new(State {
            workers: Arc::new(Semaphore::new(WORKERS)),
            work_micros: AtomicU64::new(u64::try_from(WORK.as_micros())?),
            trouble: watch::Sender::new(Trouble::Nothing),
            hot: hot_lock.then(|| Arc::new(Semaphore::new(1))),
            arrivals: Series::new(base),
            base,
            started: AtomicU64::new(0),
            started_late: AtomicU64::new(0),
        });
        let shared = Arc::clone(&state);
        let guarded = guard(guarding, &state.arrivals, move |request| handle(Arc::clone(&shared), request));
        let (listener, address) = bind().await?;
        let accepting = Mutex::new(Some(tokio::spawn(accept(listener, guarded.clone()))));
        Ok(Self { state, address, guarded, accepting })
    }

    /// Sets the time of a worker for one request.
    pub(crate) fn set_work_time(&self, work: Duration) {
        self.state.work_micros.store(u64::try_from(work.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Sets the fault of the service.
    pub(crate) async fn set_trouble(&self, trouble: Trouble) -> anyhow::Result<()> {
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

/// Binds a port below those that Linux uses for outgoing connections (from 32768).
///
/// With a higher port, a client could connect from the closed port to itself while the service is down.
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

/// Accepts and serves connections. Aborting the task also ends its connections.
async fn accept(listener: TcpListener, guarded: Guarded) {
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("laboratory: accepting a connection failed: {error}");
                sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        drop(stream.set_nodelay(true));
        let service = TowerToHyperService::new(guarded.clone());
        connections.spawn(async move {
            // An error means that the client closed the connection, which is normal.
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
    state.started.fetch_add(1, Ordering::Relaxed);
    if given_up_at.is_some_and(|at| now > at) {
        state.started_late.fetch_add(1, Ordering::Relaxed);
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
