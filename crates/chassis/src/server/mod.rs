//! The listeners: an accept loop of our own, with every wait bounded, and a shutdown in two stages.
//!
//! `axum::serve` sets no timer on its connections, so its header timeout never fires and a client that dribbles
//! holds a connection for ever. Here the head, the body, the reply and the idle time between requests each have a
//! limit ([`Limits`]), and so does the number of connections.
//!
//! Shutdown ([`Lifecycle::run`]): on the first signal the service stops accepting, `readyz` turns 503, a
//! new request on an open connection is refused as `shutting-down` and the connection closed, and requests and
//! tasks in hand get [`CommonConfig::shutdown_grace`](crate::config::CommonConfig) to finish. Then, or on the
//! second signal, what is left is aborted.

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
