//! What asks a process to stop.

use std::io::{self, Read};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// SIGTERM, SIGINT (Ctrl-C) and, if asked for, the end of standard input.
#[derive(Debug)]
pub struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    stdin: Option<mpsc::Receiver<()>>,
}

impl Signals {
    /// Takes the signals over. From here on they no longer kill the process by themselves.
    ///
    /// With `exit_with_stdin` the end of standard input counts as one signal: a parent that holds the other end of
    /// the pipe takes its children along however it dies.
    pub fn install(exit_with_stdin: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: Some(signal(SignalKind::terminate())?),
            interrupt: Some(signal(SignalKind::interrupt())?),
            stdin: exit_with_stdin.then(stdin_end).transpose()?,
        })
    }

    /// None at all: for tests, which stop by [`Lifecycle::stop`](super::Lifecycle::stop).
    pub fn none() -> Self {
        Self { terminate: None, interrupt: None, stdin: None }
    }

    /// The next one's name. Cancel safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            Some(()) = received(self.terminate.as_mut()) => "SIGTERM",
            Some(()) = received(self.interrupt.as_mut()) => "SIGINT",
            Some(()) = ended(self.stdin.as_mut()) => "the end of standard input",
            else => std::future::pending().await,
        }
    }
}

async fn received(signal: Option<&mut Signal>) -> Option<()> {
    signal?.recv().await
}

async fn ended(stdin: Option<&mut mpsc::Receiver<()>>) -> Option<()> {
    stdin?.recv().await
}

/// A plain thread: the runtime's own standard input would hold the process back at its end until a line came.
fn stdin_end() -> io::Result<mpsc::Receiver<()>> {
    let (ended, end) = mpsc::channel(1);
    std::thread::Builder::new().name("stdin-watch".to_owned()).spawn(move || {
        let mut buffer = [0; 512];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // The receiver is gone when the process is ending already.
        let _ = ended.blocking_send(());
    })?;
    Ok(end)
}
