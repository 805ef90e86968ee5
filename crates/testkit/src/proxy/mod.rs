//! Proxies that inject network faults between two processes.
//!
//! [`HttpProxy`] stands in front of an HTTP/1.1 service and understands requests. A test can say: execute the next
//! confirm and lose its reply. [`TcpProxy`] stands in front of any other server, mostly PostgreSQL, and handles only
//! bytes and directions.
//!
//! Both listen on loopback, close and open their port on demand, and count their actions, so that a test can prove that
//! its fault took place.

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

/// Direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}
