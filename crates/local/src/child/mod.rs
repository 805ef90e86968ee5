//! A service as a child process: started, watched, restarted with back-off when it dies, stopped politely.
//!
//! The child gets [`EXIT_WITH_STDIN`] in its environment and a pipe as standard input, and must shut down
//! when that pipe ends. The kernel ends it however this process ends, so no child is ever orphaned.

pub(crate) mod back_off;
mod supervisor;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot, watch};

use supervisor::{Order, Supervisor};

/// Set to `1`: shut down as on SIGTERM when standard input ends.
pub const EXIT_WITH_STDIN: &str = "MAINSTAY_EXIT_WITH_STDIN";

/// What to run.
#[derive(Clone)]
pub struct ChildSpec {
    /// How events name it.
    pub name: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// On top of this process's own environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Standard output and error are appended here.
    pub log: PathBuf,
    pub restart: Restart,
    /// How long a stop waits after SIGTERM before it sends SIGKILL.
    pub stop_within: Duration,
}

// The environment holds passwords.
impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("name", &self.name)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// What follows when a child dies that nobody stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// It is started again, after 200 ms at first, and twice as long each time up to 5 s.
    WithBackOff,
    /// It stays dead until [`Child::start`]; for tests that look at what is left.
    Never,
}

/// What happened to a child without being asked for.
#[derive(Debug, Clone)]
pub enum ChildEvent {
    Died {
        name: &'static str,
        status: ExitStatus,
        restart_in: Option<Duration>,
    },
    Restarted {
        name: &'static str,
        pid: u32,
    },
    /// The program could not even be started.
    NotStarted {
        name: &'static str,
        error: String,
        retry_in: Option<Duration>,
    },
}

impl fmt::Display for ChildEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let then = |wait: &Option<Duration>| {
            wait.map_or_else(|| "not restarted".to_owned(), |wait| format!("restarting in {wait:?}"))
        };
        match self {
            Self::Died { name, status, restart_in } => {
                write!(f, "{name} died ({status}); {}", then(restart_in))
            }
            Self::Restarted { name, pid } => write!(f, "{name} runs again (process {pid})"),
            Self::NotStarted { name, error, retry_in } => {
                write!(f, "{name} could not be started ({error}); {}", then(retry_in))
            }
        }
    }
}

/// Receives events from the supervising tasks; must not block.
pub type OnEvent = Arc<dyn Fn(ChildEvent) + Send + Sync>;

/// A child's state as its supervisor last knew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Running { pid: u32 },
    Dead { status: Option<ExitStatus> },
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It ended on SIGTERM, with this status.
    ByItself(ExitStatus),
    /// It had to be killed.
    Killed,
    /// It was not running.
    WasDead,
}

/// A supervised child process. Dropping the handle stops the child as [`Child::stop`] does, in the background.
#[derive(Debug)]
pub struct Child {
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<State>,
}

impl Child {
    /// Starts the child and its supervision. Fails only when this first start does.
    pub fn spawn(spec: ChildSpec, on_event: OnEvent) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::channel(4);
        let (supervisor, state) = Supervisor::new(spec, inbox, on_event)?;
        tokio::spawn(supervisor.run());
        Ok(Self { orders, state })
    }

    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    pub fn pid(&self) -> Option<u32> {
        match self.state() {
            State::Running { pid } => Some(pid),
            State::Dead { .. } => None,
        }
    }

    /// SIGKILL. Returns when the process is gone; what follows is up to [`Restart`].
    pub async fn kill(&self) {
        self.order(Order::Kill).await;
    }

    /// SIGTERM, which a paused child is resumed for, then SIGKILL when it takes too long. It stays stopped until
    /// [`Child::start`].
    pub async fn stop(&self) -> Stopped {
        self.order(Order::Stop).await.unwrap_or(Stopped::WasDead)
    }

    /// SIGSTOP: the child stands still, as a process does whose machine has none left for it. Its sockets stay open.
    pub async fn pause(&self) {
        self.order(|done| Order::Signal(Signal::STOP, done)).await;
    }

    /// SIGCONT: a paused child goes on as if no time had passed.
    pub async fn resume(&self) {
        self.order(|done| Order::Signal(Signal::CONT, done)).await;
    }

    /// Starts a dead child now, without the rest of a back-off. Does nothing to a running one.
    pub async fn start(&self) {
        self.order(Order::Start).await;
    }

    /// `None` when the supervisor is gone, with the runtime that carried it.
    async fn order(&self, order: impl FnOnce(oneshot::Sender<Stopped>) -> Order) -> Option<Stopped> {
        let (done, answer) = oneshot::channel();
        self.orders.send(order(done)).await.ok()?;
        answer.await.ok()
    }
}
