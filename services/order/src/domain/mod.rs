//! States and decisions of an order: pure, synchronous functions without clocks or I/O.

pub mod decisions;
pub mod retry;
pub mod status;

pub use status::{CustomerCommand, Event, Illegal, PLACE, Status, TRANSITIONS};
