//! Loopback port that can be closed, so that connections are refused, and opened again.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

/// Length of the accept queue: more connections than any test opens at once.
const BACKLOG: u32 = 256;

/// Pause between two attempts to open the port again.
const RETRY_BIND: Duration = Duration::from_millis(20);

/// Owner of the accept loop and, through it, of every connection. All end when it is dropped.
#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    wanted: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
    /// Counter; each change resets every open connection.
    cut: watch::Sender<u64>,
    accepting: AbortHandle,
}

impl Port {
    /// Listens on a free port and passes each connection to `serve`.
    pub(super) async fn open<S, F>(serve: S) -> io::Result<Self>
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (address, listener) = bind_free().await?;
        let (wanted, want) = watch::channel(true);
        let (is, listening) = watch::channel(true);
        let (cut, cuts) = watch::channel(0);
        let accepting = tokio::spawn(accept(address, listener, want, is, cuts, serve)).abort_handle();
        Ok(Self { address, wanted, listening, cut, accepting })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts or stops listening, and returns when that is done. Open connections stay open.
    pub(super) async fn listen(&self, on: bool) {
        self.wanted.send_replace(on);
        let mut listening = self.listening.clone();
        // Waiting cannot fail, because the accept loop holds the sender and lives as long as `self`.
        let _alive = listening.wait_for(|now| *now == on).await;
    }

    /// Resets every open connection.
    pub(super) fn cut(&self) {
        self.cut.send_modify(|generation| *generation += 1);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Draws free ports until one can be bound, because another process may take a free port first.
async fn bind_free() -> io::Result<(SocketAddr, TcpListener)> {
    const TRIES: u32 = 20;
    let mut tries = 0;
    loop {
        let port = tokio::task::spawn_blocking(local::ports::free).await.map_err(io::Error::other)??;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match bind(address) {
            Ok(listener) => return Ok((address, listener)),
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Connections from before the port was closed may still be in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept<S, F>(
    address: SocketAddr,
    first: TcpListener,
    mut wanted: watch::Receiver<bool>,
    listening: watch::Sender<bool>,
    cuts: watch::Receiver<u64>,
    serve: S,
) where
    S: Fn(TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut listener = Some(first);
    let mut connections = JoinSet::new();
    loop {
        let on = *wanted.borrow_and_update();
        if on && listener.is_none() {
            listener = bind(address).ok();
        } else if !on {
            listener = None;
        }
        let failed = on && listener.is_none();
        listening.send_replace(listener.is_some());
        let arrival = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Another process has the port; try again soon.
            () = sleep(RETRY_BIND), if failed => {}
            changed = wanted.changed() => if changed.is_err() { return },
            Ok((stream, _)) = arrival => {
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                let served = serve(stream);
                connections.spawn(async move {
                    tokio::select! {
                        () = served => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Makes the socket send a reset (RST) instead of an orderly close (FIN) when it is dropped.
pub(super) fn reset_on_drop(stream: &TcpStream) {
    // This fails only on a socket that is closed already.
    let _gone = stream.set_zero_linger();
}
