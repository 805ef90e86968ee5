//! A network between two processes that fails on command.
//!
//! [`HttpProxy`] stands between a client and an HTTP/1.1 service and understands requests, so that a test can
//! say "the next confirm is carried out and its answer lost". [`TcpProxy`] stands before anything else,
//! PostgreSQL first of all, and knows bytes and directions only. Both listen on loopback, close and open their
//! port on demand, and count what they did, so that a test can prove that its fault took place.

use serde::{Deserialize, Serialize};

mod http;
mod message;
mod port;
mod script;
mod tcp;

pub use http::{Counts, Exchange, HttpProxy, Point};
pub use message::Message;
pub use script::{Ending, Fault, When};
pub use tcp::{Cut, Flow, TcpCounts, TcpProxy};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}
