//! States and decisions of an order: pure, synchronous functions without clocks or I/O.

pub mod rules;
pub mod status;

pub use status::{Event, Illegal, Status, TRANSITIONS};
