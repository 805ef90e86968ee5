//! How long and how much a connection may take.

use std::time::Duration;

/// The bounds of one listener. The defaults suit the public one.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the first byte of a request (or the opening of the connection) to the end of its head. 10 s: a slow
    /// mobile link needs one or two; a slow-loris client needs for ever. The connection is closed without a reply.
    pub head: Duration,
    /// Between two parts of a body. Reported as 408.
    pub body_progress: Duration,
    /// For a whole body: 256 KiB in 30 s is 70 kbit/s. Reported as 408.
    pub body_total: Duration,
    /// Without a byte of the reply taken by the client. The connection is closed.
    pub write_progress: Duration,
    /// Between two requests. Longer than the 30 s after which the client stack drops an unused connection, so
    /// that the side that might send is the side that closes.
    pub idle: Duration,
    /// Connections served at once.
    pub connections: usize,
    /// Connections beyond that which are told so (503 `overloaded`, not executed) and closed. Still more wait in
    /// the kernel's accept queue.
    pub turned_away: usize,
    /// Header fields of a request; more are answered 431.
    pub header_fields: usize,
    /// Bytes of a request's head; more are answered 431.
    pub head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body_progress: Duration::from_secs(10),
            body_total: Duration::from_secs(30),
            write_progress: Duration::from_secs(20),
            idle: Duration::from_secs(75),
            connections: 1_024,
            turned_away: 64,
            header_fields: 64,
            head_bytes: 16 * 1024,
        }
    }
}

impl Limits {
    /// For the operations listener: few connections, so that probes and scrapes get through whatever the public
    /// listener suffers, and cannot themselves exhaust the process.
    pub fn operations() -> Self {
        Self { connections: 64, turned_away: 8, ..Self::default() }
    }
}
