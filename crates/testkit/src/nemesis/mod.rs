//! Faults nobody thought of together: from a seed, a schedule of them; under the schedule, a pair at work; at the end,
//! the checker.
//!
//! ```text
//!   seed ──> Schedule ──> run: pair + load + faults ──> all healed ──> every key answered ──> at rest ──> checker
//!                │  ▲                                                                          │
//!                ▼  │                                                                          ▼
//!             JSON lines <────────────────── smallest: drop steps while it fails <────────── failure
//! ```
//!
//! The same seed is the same schedule and the same clients' wishes. It is not the same interleaving: these are real
//! processes on a real machine, so a failure that hangs on a race may need several runs of its schedule to come again.
//!
//! | module | holds |
//! |---|---|
//! | [`schedule`] | what a step is, and the file of JSON lines |
//! | [`generate`] | a schedule from a seed |
//! | `faults` | doing what the schedule says, at its time |
//! | `load` | the clients |
//! | `run` | one schedule from its start to the verdict |
//! | [`shrink`] | the smallest part of a schedule that still fails |

mod faults;
pub mod generate;
mod load;
mod run;
pub mod schedule;
pub mod shrink;

pub use run::{Failure, Run, run};
pub use schedule::{Fault, Schedule, Settings, Step};
pub use shrink::smallest;
