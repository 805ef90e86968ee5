//! Events: one wide record for each request and each background step, kept, sealed and queried.
//!
//! * A [`Recorder`] takes events from a service. It never waits for the disk: a full queue or a full disk drops events
//!   and counts them.
//! * A [`Store`] keeps them in a folder, in segments. A finished segment is sealed: every bad event and one in N good
//!   ones are compressed, and both files stand with their SHA-256 in a chained [`Manifest`].
//! * [`verify()`] names the file and the seal when one byte was altered.
//! * A [`Query`] finds and counts events over all segments in constant memory.
//!
//! The crate knows no service and no HTTP.

mod event;
pub mod fields;
pub mod manifest;
pub mod names;
pub mod objective;
mod options;
mod query;
mod recorder;
mod seal;
mod stamp;
mod store;
mod verify;

pub use event::{Event, MAX_SKUS, Origin, RequestEvent, StepEvent};
pub use manifest::Manifest;
pub use objective::{Objective, Objectives, Verdict};
pub use options::{Options, SMALLEST_BUDGET, parse_bytes};
pub use query::{Group, Query, QueryError, Summary};
pub use recorder::{Recorder, StartError, Writing};
pub use store::{OpenError, Repairs, Store, TierState, Tiers};
pub use verify::{Fault, Verified, verify};

/// The example in the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
