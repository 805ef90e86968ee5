//! The server stack, tested without a network and on a paused clock.
// Clippy lets `#[test]` functions unwrap, but not their helpers.
#![allow(clippy::unwrap_used)]

mod alone;
mod headers;
mod laws;
mod laws_of_overload;
mod layers;
mod order;
mod overload;
mod read_body;
#[path = "../recorder/mod.rs"]
mod recorder;
mod router;
mod support;
mod traps;
