//! The listeners: an accept loop with every wait bounded, and a shutdown in two stages.
//!
//! `axum::serve` sets no timer on its connections, so its header timeout never fires, and a client that sends a byte a minute
//! holds a connection without end. Here the head, the body, the reply and the idle time between requests each have a
//! limit ([`Limits`]), and so does the number of connections.
//!
//! Shutdown ([`Lifecycle::run`]): on the first signal the service stops accepting, `readyz` turns 503, a
//! new request on an open connection is refused as `shutting-down` and the connection closed, and requests and
//! tasks in flight have [`ProcessConfig::shutdown_grace`](crate::config::ProcessConfig) to end. Then, or on the second
//! signal, the rest is aborted.

mod accept;
mod body;
mod connection;
mod io;
mod lifecycle;
mod limits;
mod listen;
mod signal;

pub use accept::Serves;
pub use body::BodyTimeout;
pub use lifecycle::{Ending, Lifecycle, Served};
pub use limits::Limits;
pub use listen::{BindError, Listener, bind};
pub use signal::Signals;
