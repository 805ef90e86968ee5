//! The client stack, tested without a network and on a paused clock, except for the transport's own tests.
// Clippy lets `#[test]` functions unwrap, but not their helpers.
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
#[allow(dead_code)] // only server tests read canonical lines
mod recorder;
mod repeats;
#[cfg(feature = "hyper")]
mod sockets;
mod support;
mod traps;
mod typed_replies;
