//! Bounds on the time and the number of connections.

use std::time::Duration;

/// The bounds of one listener. The defaults are for the public listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time from the first byte of a request (or the opening of the connection) to the end of its head. 10 s: a slow mobile
    /// link needs one or two seconds. Then the connection is closed without a reply.
    pub head: Duration,
    /// Time between two parts of a body. Then the reply is 408.
    pub body_progress: Duration,
    /// Time for a whole body: 256 KiB in 30 s is 70 kbit/s. Then the reply is 408.
    pub body_total: Duration,
    /// Time in which the client takes no byte of the reply. Then the connection is closed.
    pub write_progress: Duration,
    /// Time between two requests. It is longer than the 30 s after which the client stack closes an unused connection, so
    /// that the side that might send a request is the side that closes.
    pub idle: Duration,
    /// Most connections that are served at once.
    pub connections: usize,
    /// Most further connections whose requests are answered 503 `overloaded` (not executed). The rest waits in the kernel's
    /// accept queue.
    pub rejected: usize,
    /// Most header fields of a request; for more the reply is 431.
    pub header_fields: usize,
    /// Most bytes of a request's head; for more the reply is 431.
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
            rejected: 64,
            header_fields: 64,
            head_bytes: 16 * 1024,
        }
    }
}

impl Limits {
    /// The bounds of the operations listener: few connections of its own, so that probes and scrapes are answered while the
    /// public listener is full, and cannot exhaust the process.
    pub fn operations() -> Self {
        Self { connections: 64, rejected: 8, ..Self::default() }
    }
}
