//! The signals that stop a process.

use std::io::{self, Read};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// SIGTERM, SIGINT (Ctrl-C) and, as an option, the end of standard input.
#[derive(Debug)]
pub struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    stdin: Option<mpsc::Receiver<()>>,
}

impl Signals {
    /// Installs the handlers. The signals no longer end the process by themselves.
    ///
    /// With `exit_with_stdin` the end of standard input is a signal too: the process then ends with the parent that holds
    /// the other end of the pipe, also when that is killed.
    pub fn install(exit_with_stdin: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: Some(signal(SignalKind::terminate())?),
            interrupt: Some(signal(SignalKind::interrupt())?),
            stdin: exit_with_stdin.then(stdin_end).transpose()?,
        })
    }

    /// No signals, for tests, which stop a service by [`Lifecycle::stop`](super::Lifecycle::stop).
    pub fn none() -> Self {
        Self { terminate: None, interrupt: None, stdin: None }
    }

    /// Waits for the next signal and returns its name. Cancel safe.
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

/// Reads standard input in a plain thread. The runtime's reader would delay the end of the process until a line came.
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
        // The receiver is gone if the process is ending.
        let _ = ended.blocking_send(());
    })?;
    Ok(end)
}
