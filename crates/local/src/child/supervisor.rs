//! The task that owns a child process. Only this task sends signals, and only before it has collected the child's
//! status. So a signal never reaches another process that was given the same process id.

use std::fs::OpenOptions;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{ChildStdin, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::back_off::BackOff;
use super::{ChildEvent, ChildSpec, EXIT_WITH_STDIN, OnEvent, Restart, State, Stopped};

#[derive(Debug)]
pub(super) enum Control {
    Kill(oneshot::Sender<Stopped>),
    Stop(oneshot::Sender<Stopped>),
    /// A signal that the child need not answer.
    Signal(Signal, oneshot::Sender<Stopped>),
    Start(oneshot::Sender<Stopped>),
}

pub(super) struct Supervisor {
    spec: ChildSpec,
    inbox: mpsc::Receiver<Control>,
    on_event: OnEvent,
    state: watch::Sender<State>,
    back_off: BackOff,
    running: Option<Running>,
    /// The end of a dead child's back-off.
    restart_at: Option<Instant>,
}

/// A process that is not yet collected, with the pipe whose end makes it exit. The pipe is kept outside the process
/// handle, because `Child::wait` closes a standard input that it still holds.
struct Running {
    process: tokio::process::Child,
    pid: u32,
    since: Instant,
    _stdin: Option<ChildStdin>,
}

/// The next event for the supervisor.
enum Turn {
    Died(ExitStatus),
    RestartIsDue,
    Ordered(Control),
    HandleDropped,
}

impl Supervisor {
    pub(super) fn new(
        spec: ChildSpec,
        inbox: mpsc::Receiver<Control>,
        on_event: OnEvent,
    ) -> io::Result<(Self, watch::Receiver<State>)> {
        let running = spawn(&spec)?;
        let (state, receiver) = watch::channel(State::Running { pid: running.pid });
        let back_off = BackOff::default();
        Ok((
            Self { spec, inbox, on_event, state, back_off, running: Some(running), restart_at: None },
            receiver,
        ))
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.turn().await {
                Turn::Died(status) => self.died(status),
                Turn::RestartIsDue => self.start_again(),
                Turn::Ordered(Control::Start(done)) => {
                    if self.running.is_none() {
                        self.start_again();
                    }
                    let _caller_left = done.send(Stopped::WasDead);
                }
                Turn::Ordered(Control::Kill(done)) => {
                    let _caller_left = done.send(self.kill().await);
                }
                Turn::Ordered(Control::Stop(done)) => {
                    let _caller_left = done.send(self.stop().await);
                }
                Turn::Ordered(Control::Signal(signal, done)) => {
                    self.signal(signal);
                    let _caller_left = done.send(Stopped::WasDead);
                }
                Turn::HandleDropped => {
                    self.stop().await;
                    return;
                }
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let ordered = |order: Option<Control>| order.map_or(Turn::HandleDropped, Turn::Ordered);
        match (&mut self.running, self.restart_at) {
            (Some(running), _) => tokio::select! {
                status = running.process.wait() => Turn::Died(status.unwrap_or_default()),
                order = self.inbox.recv() => ordered(order),
            },
            (None, Some(due)) => tokio::select! {
                () = sleep_until(due) => Turn::RestartIsDue,
                order = self.inbox.recv() => ordered(order),
            },
            (None, None) => ordered(self.inbox.recv().await),
        }
    }

    /// Records a death that was not a stop, and plans the restart if there is one.
    fn died(&mut self, status: ExitStatus) {
        let lived = self.running.take().map_or(Duration::ZERO, |running| running.since.elapsed());
        self.state.send_replace(State::Dead { status: Some(status) });
        let restart_in = self.plan_restart(lived);
        (self.on_event)(ChildEvent::Died { name: self.spec.name, status, restart_in });
    }

    fn start_again(&mut self) {
        let name = self.spec.name;
        match spawn(&self.spec) {
            Ok(running) => {
                let pid = running.pid;
                self.running = Some(running);
                self.restart_at = None;
                self.state.send_replace(State::Running { pid });
                (self.on_event)(ChildEvent::Restarted { name, pid });
            }
            Err(error) => {
                let retry_in = self.plan_restart(Duration::ZERO);
                (self.on_event)(ChildEvent::NotStarted { name, error: error.to_string(), retry_in });
            }
        }
    }

    fn plan_restart(&mut self, lived: Duration) -> Option<Duration> {
        let wait = match self.spec.restart {
            Restart::WithBackOff => Some(self.back_off.after_death(lived)),
            Restart::Never => None,
        };
        self.restart_at = wait.map(|wait| Instant::now() + wait);
        wait
    }

    async fn kill(&mut self) -> Stopped {
        let Some(running) = &mut self.running else { return Stopped::WasDead };
        let _already_dead = running.process.start_kill();
        let status = running.process.wait().await.unwrap_or_default();
        self.died(status);
        Stopped::Killed
    }

    fn signal(&self, signal: Signal) {
        let pid = self.running.as_ref().and_then(|running| Pid::from_raw(i32::try_from(running.pid).ok()?));
        if let Some(pid) = pid {
            let _already_dead = kill_process(pid, signal);
        }
    }

    async fn stop(&mut self) -> Stopped {
        self.restart_at = None;
        self.signal(Signal::TERM);
        self.signal(Signal::CONT); // a paused child does not react to SIGTERM
        let Some(mut running) = self.running.take() else { return Stopped::WasDead };
        let stopped = match timeout(self.spec.stop_within, running.process.wait()).await {
            Ok(status) => Stopped::ByItself(status.unwrap_or_default()),
            Err(_too_slow) => {
                let _already_dead = running.process.kill().await;
                Stopped::Killed
            }
        };
        let status = match stopped {
            Stopped::ByItself(status) => Some(status),
            Stopped::Killed | Stopped::WasDead => None,
        };
        self.state.send_replace(State::Dead { status });
        stopped
    }
}

fn spawn(spec: &ChildSpec) -> io::Result<Running> {
    let log = OpenOptions::new().create(true).append(true).open(&spec.log)?;
    let mut process = Command::new(&spec.program)
        .args(&spec.arguments)
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .env(EXIT_WITH_STDIN, "1")
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0) // Ctrl-C goes to this process only, which then stops the child in order
        .kill_on_drop(true)
        .spawn()?;
    let stdin = process.stdin.take();
    let pid = process.id().ok_or_else(|| io::Error::other("the process ended before it had an id"))?;
    Ok(Running { process, pid, since: Instant::now(), _stdin: stdin })
}
