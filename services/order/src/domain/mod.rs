//! What an order may do and why: pure, synchronous, without clocks or I/O.

pub mod rules;
pub mod status;

pub use status::{Event, Illegal, Status, TRANSITIONS};
