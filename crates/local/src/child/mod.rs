//! A service as a child process: started, supervised, restarted with back-off when it dies, stopped by SIGTERM.
//!
//! The child gets [`EXIT_WITH_STDIN`] in its environment and a pipe as standard input, and must shut down when that
//! pipe ends. The kernel closes the pipe however this process ends, so no child is ever orphaned.

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

use supervisor::{Control, Supervisor};

/// The environment variable that, set to `1`, makes a service shut down as on SIGTERM when its standard input ends.
pub const EXIT_WITH_STDIN: &str = "MAINSTAY_EXIT_WITH_STDIN";

/// The description of a child process.
#[derive(Clone)]
pub struct ChildSpec {
    /// The name that events use.
    pub name: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Variables added to this process's own environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The file to which standard output and error are appended.
    pub log: PathBuf,
    pub restart: Restart,
    /// The time that a stop waits after SIGTERM before it sends SIGKILL.
    pub stop_within: Duration,
}

// Not derived: the environment holds passwords.
impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("name", &self.name)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// The reaction to the death of a child that was not stopped by its supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Start the child again: first after 200 ms, then after twice the last wait, 5 s at most.
    WithBackOff,
    /// Leave the child dead until [`Child::start`]. For tests that examine what is left.
    Never,
}

/// An event that the supervisor's user did not ask for.
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
    /// The program could not be started.
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

/// The receiver of events from the supervising tasks. It must not block.
pub type OnEvent = Arc<dyn Fn(ChildEvent) + Send + Sync>;

/// A child's state, as its supervisor last saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Running { pid: u32 },
    Dead { status: Option<ExitStatus> },
}

/// The result of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The child ended on SIGTERM, with this status.
    ByItself(ExitStatus),
    /// The child did not end in time and was killed.
    Killed,
    /// The child was not running.
    WasDead,
}

/// A supervised child process. Dropping the handle stops the child as [`Child::stop`] does, in the background.
#[derive(Debug)]
pub struct Child {
    orders: mpsc::Sender<Control>,
    state: watch::Receiver<State>,
}

impl Child {
    /// Starts the child and its supervision.
    ///
    /// # Errors
    /// This first start fails.
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

    /// Sends SIGKILL and returns when the process is gone. [`Restart`] then decides about a new start.
    pub async fn kill(&self) {
        self.order(Control::Kill).await;
    }

    /// Sends SIGTERM (and resumes a paused child, so that it can react), then SIGKILL after
    /// [`ChildSpec::stop_within`]. The child stays stopped until [`Child::start`].
    pub async fn stop(&self) -> Stopped {
        self.order(Control::Stop).await.unwrap_or(Stopped::WasDead)
    }

    /// Sends SIGSTOP: the child stands still, like a process that gets no processor time. Its sockets stay open.
    pub async fn pause(&self) {
        self.order(|done| Control::Signal(Signal::STOP, done)).await;
    }

    /// Sends SIGCONT: a paused child goes on as if no time had passed.
    pub async fn resume(&self) {
        self.order(|done| Control::Signal(Signal::CONT, done)).await;
    }

    /// Starts a dead child now, without the rest of its back-off. Has no effect on a running child.
    pub async fn start(&self) {
        self.order(Control::Start).await;
    }

    /// Sends an order to the supervisor and waits for its answer; `None` when the supervisor has ended with its
    /// runtime.
    async fn order(&self, order: impl FnOnce(oneshot::Sender<Stopped>) -> Control) -> Option<Stopped> {
        let (done, answer) = oneshot::channel();
        self.orders.send(order(done)).await.ok()?;
        answer.await.ok()
    }
}
