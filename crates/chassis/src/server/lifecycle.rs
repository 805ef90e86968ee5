//! The lifecycle of a process: it serves, drains and stops. A shutdown has two stages.

use std::fmt;
use std::future::Future;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay::ConfigError;
use mainstay::server::{ServerConfig, ServerStack};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::accept::{Serves, accept_until};
use super::connection::Ends;
use super::{Limits, Listener, Signals};
use crate::tasks::Tasks;

/// A listener with the service behind it.
#[derive(Debug)]
pub struct Served<S> {
    /// The open port.
    pub listener: Listener,
    /// The service: a `Router`, or layers around one.
    pub service: S,
    /// Bounds on connections and requests.
    pub limits: Limits,
}

/// End of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Everything in flight ended by itself.
    Finished,
    /// Work was aborted, or a listener had failed before.
    Aborted {
        /// Connections that were still open.
        connections: usize,
        /// Tasks that were still running.
        tasks: usize,
    },
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Finished => Self::SUCCESS,
            Ending::Aborted { .. } => Self::FAILURE,
        }
    }
}

/// The lifecycle of a process. Clones share it.
#[derive(Clone)]
pub struct Lifecycle {
    tasks: Tasks,
    grace: Duration,
    hooks: Arc<Mutex<Hooks>>,
}

type Hook = Box<dyn FnOnce() + Send>;
type StartHook = Box<dyn FnOnce(&Tasks) + Send>;

#[derive(Default)]
struct Hooks {
    start: Vec<StartHook>,
    stop: Vec<Hook>,
    end: Vec<Hook>,
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("tasks", &self.tasks)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// Time for one more request on an open connection: its client may have sent it before it could see the shutdown. A quarter
/// of a second covers a round trip.
const LAST_REQUEST: Duration = Duration::from_millis(250);
/// Time for aborted work to reach its next await. The end of the process ends the rest.
const AFTER_ABORT: Duration = Duration::from_secs(1);

impl Lifecycle {
    /// A lifecycle whose shutdown waits `grace` for requests and tasks in flight.
    pub fn new(grace: Duration) -> Self {
        Self { tasks: Tasks::new(), grace, hooks: Arc::default() }
    }

    /// The tasks of the process, for work that must not be cancelled.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Whether shutdown has begun.
    pub fn is_stopping(&self) -> bool {
        self.tasks.is_stopping()
    }

    /// Runs `hook` when the service begins to serve. Background loops begin there.
    pub fn on_start(&self, hook: impl FnOnce(&Tasks) + Send + 'static) {
        self.hooks().start.push(Box::new(hook));
    }

    /// Runs `hook` when shutdown begins, for example to start the server stack's [`Drain`](mainstay::server::Drain).
    pub fn on_stop(&self, hook: impl FnOnce() + Send + 'static) {
        if self.is_stopping() {
            return hook();
        }
        self.hooks().stop.push(Box::new(hook));
    }

    /// Runs `hook` after the last connection and task have ended, for example to close a database pool.
    pub fn on_end(&self, hook: impl FnOnce() + Send + 'static) {
        self.hooks().end.push(Box::new(hook));
    }

    /// A server stack that begins to refuse requests when shutdown begins.
    pub fn server_stack(&self, config: ServerConfig) -> Result<ServerStack, ConfigError> {
        let stack = mainstay::server::stack(config)?;
        let drain = stack.drain().clone();
        self.on_stop(move || drain.start());
        Ok(stack)
    }

    /// Begins the first stage, as a signal does.
    pub fn stop(&self) {
        let hooks = std::mem::take(&mut self.hooks().stop);
        for hook in hooks {
            hook();
        }
        self.tasks.stop();
    }

    /// Goes to the second stage at once.
    pub fn abort(&self) {
        self.stop();
        self.tasks.abort();
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves both listeners until a signal or [`Lifecycle::stop`], then shuts down in two stages.
    ///
    /// The operations listener stays to the last, so that a probe sees 503 and a scrape the final figures.
    pub async fn run<S: Serves, O: Serves>(
        &self,
        public: Served<S>,
        operations: Served<O>,
        mut signals: Signals,
    ) -> Ending {
        let hooks = std::mem::take(&mut self.hooks().start);
        for hook in hooks {
            hook(&self.tasks);
        }
        let ends = Ends {
            draining: self.tasks.stopping_token(),
            closing: self.tasks.aborting_token().child_token(),
            aborting: self.tasks.aborting_token(),
        };
        let connections = TaskTracker::new();
        let failed = CancellationToken::new();
        let guard = failed.clone().drop_guard();
        let serving = serve("public", public, ends.clone(), connections.clone());
        let accepting = tokio::spawn(with_guard(serving, guard));
        let over = CancellationToken::new();
        let operations_connections = TaskTracker::new();
        let last = Ends { draining: over.clone(), closing: over.clone(), aborting: CancellationToken::new() };
        let guard = failed.clone().drop_guard();
        let serving = serve("operations", operations, last.clone(), operations_connections.clone());
        let operating = tokio::spawn(with_guard(serving, guard));

        // A process whose accept loop has ended serves no request. It ends, so that its supervisor starts it again.
        let has_failed = tokio::select! {
            // Accept loops also end when a shutdown begins.
            biased;
            signal = signals.next() => {
                tracing::info!(signal, "shutting down");
                false
            }
            () = self.tasks.stopping() => {
                tracing::info!("shutting down");
                false
            }
            () = failed.cancelled() => {
                tracing::error!("accept loop ended; shutting down");
                true
            }
        };
        self.stop();
        let finished = async {
            join(accepting).await;
            connections.close();
            tokio::select! {
                () = connections.wait() => {}
                () = tokio::time::sleep(LAST_REQUEST) => ends.closing.cancel(),
            }
            connections.wait().await;
            self.tasks.ended().await;
        };
        let reason = tokio::select! {
            () = finished => None,
            signal = signals.next() => Some(signal),
            () = self.tasks.aborting() => Some("an abort"),
            () = tokio::time::sleep(self.grace) => Some("the end of SHUTDOWN_SECONDS"),
        };
        let ending = match reason {
            None if has_failed => Ending::Aborted { connections: 0, tasks: 0 },
            None => Ending::Finished,
            Some(reason) => self.abort_rest(reason, &connections).await,
        };
        over.cancel();
        join(operating).await;
        operations_connections.close();
        within(AFTER_ABORT, operations_connections.wait()).await;
        last.aborting.cancel();
        let hooks = std::mem::take(&mut self.hooks().end);
        for hook in hooks {
            hook();
        }
        tracing::info!(?ending, "stopped");
        ending
    }

    async fn abort_rest(&self, reason: &str, connections: &TaskTracker) -> Ending {
        let ending = Ending::Aborted { connections: connections.len(), tasks: self.tasks.running() };
        tracing::warn!(reason, ?ending, "aborting the work that is left");
        self.tasks.abort();
        connections.close();
        within(AFTER_ABORT, async {
            connections.wait().await;
            self.tasks.ended().await;
        })
        .await;
        ending
    }
}

async fn serve<S: Serves>(name: &'static str, served: Served<S>, ends: Ends, connections: TaskTracker) {
    let Served { listener, service, limits } = served;
    tracing::info!(listener = name, address = %listener.address(), "listening");
    accept_until(name, listener, service, limits, ends, connections).await;
}

/// Drops `guard` when `serving` ends, also by a panic.
async fn with_guard(serving: impl Future<Output = ()>, guard: DropGuard) {
    serving.await;
    drop(guard);
}

async fn join(task: tokio::task::JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "accept loop panicked");
    }
}

async fn within(bound: Duration, work: impl Future<Output = ()>) {
    if tokio::time::timeout(bound, work).await.is_err() {
        tracing::warn!("shutdown step exceeded its timeout");
    }
}
