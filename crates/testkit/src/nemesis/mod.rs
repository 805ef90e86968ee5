//! Random combinations of faults: a seed gives a schedule of faults, a pair under load runs it, and the checker judges
//! the result.
//!
//! ```text
//!   seed ──> Schedule ──> run: pair + load + faults ──> all healed ──> every key answered ──> at rest ──> checker
//!                │  ▲                                                                          │
//!                ▼  │                                                                          ▼
//!             JSON lines <────────────────── smallest: drop steps while it fails <────────── failure
//! ```
//!
//! The same seed gives the same schedule and the same client commands, but not the same interleaving, because real
//! processes run on a real machine. A failure that depends on a race may need several runs of its schedule to recur.
//!
//! | module | holds |
//! |---|---|
//! | [`schedule`] | a schedule's steps and its file of JSON lines |
//! | [`generate`] | generation of a schedule from a seed |
//! | `faults` | application of the faults at their times |
//! | `load` | the clients |
//! | `run` | one run of a schedule, from the start of the pair to the checker's verdict |
//! | [`shrink`] | reduction of a failing schedule to a small part that still fails |

mod faults;
pub mod generate;
mod load;
mod run;
pub mod schedule;
pub mod shrink;

pub use run::{Failure, Run, run};
pub use schedule::{Fault, Schedule, Settings, Step};
pub use shrink::smallest;
