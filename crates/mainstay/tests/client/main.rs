//! The client stack, tested without a network and on a paused clock, but for the transport's own tests.
// Clippy lets `#[test]` functions unwrap, but not what they share.
#![allow(clippy::unwrap_used)]

mod alone;
mod coalesce;
mod config;
mod fallback;
#[cfg(feature = "faults")]
mod faults;
mod hedge;
mod laws;
mod leavers;
mod order;
mod overload;
#[path = "../recorder/mod.rs"]
#[allow(dead_code)] // canonical lines are of the server
mod recorder;
mod repeats;
#[cfg(feature = "hyper")]
mod sockets;
mod support;
mod traps;
mod typed_replies;
