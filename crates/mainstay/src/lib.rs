//! Tower middleware for HTTP services and their clients, built for production incidents.
//!
//! The layers carry deadlines from hop to hop, retry within a budget and with respect for unknown outcomes, and share
//! one classification of every reply. A decision trail records each decision with its reason, so that a service can
//! store it with the result. The crate depends on no service that uses it.

pub mod attempt_timeout;
pub mod breaker;
pub mod budget;
pub mod bulkhead;
pub mod classify;
pub mod client;
mod clock;
pub mod coalesce;
mod config_error;
pub mod context;
pub mod correlation;
pub mod deadline;
mod decision;
mod endpoint;
pub mod fallback;
#[cfg(feature = "faults")]
pub mod fault;
pub mod headers;
pub mod hedge;
mod held_body;
pub mod limit;
#[cfg(all(loom, test))]
mod loom_models;
pub mod outcome;
pub mod problem;
pub mod random;
pub mod registry;
pub mod retry;
pub mod server;
mod sync;
pub mod throttle;
pub mod total_deadline;
pub mod trace;
pub mod trail;
mod window;

pub use client::CallError;
pub use config_error::{ConfigError, ConfigProblem};
pub use context::{RepeatedWork, RequestContext};
pub use correlation::CorrelationId;
pub use deadline::Deadline;
pub use endpoint::Endpoint;
pub use held_body::HeldBody;
pub use outcome::Outcome;
pub use problem::Problem;
pub use registry::Registry;
pub use trace::TraceContext;
pub use trail::DecisionTrail;

/// The README's examples, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
