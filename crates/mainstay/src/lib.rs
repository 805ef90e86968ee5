//! Tower middleware for HTTP services and their clients, built for production incidents.
//!
//! The layers carry deadlines from hop to hop, retry within a budget and with respect for unknown outcomes, and share
//! one classification of every reply. A decision trail records each decision with its reason, so that a service can
//! store it with the result. The crate depends on no service that uses it.
//!
//! Each layer has a feature of its name. The layers of a client wrap any tower service: [`classify`] shows how.

// A build with few layers does not use all of what the layers share.
#![cfg_attr(
    not(all(feature = "client", feature = "server")),
    allow(dead_code, unreachable_pub, unused_imports, unused_macros)
)]

#[cfg(feature = "timeout")]
pub mod attempt_timeout;
#[cfg(feature = "breaker")]
pub mod breaker;
mod breaker_state;
#[cfg(feature = "retry")]
pub mod budget;
pub mod builder;
#[cfg(feature = "bulkhead")]
pub mod bulkhead;
mod call_error;
pub mod classify;
#[cfg(feature = "client")]
pub mod client;
mod client_names;
mod clock;
#[cfg(feature = "coalesce")]
pub mod coalesce;
mod config_error;
pub mod context;
pub mod correlation;
pub mod deadline;
mod decision;
mod endpoint;
mod error;
#[cfg(feature = "fallback")]
pub mod fallback;
#[cfg(feature = "faults")]
pub mod fault;
mod gate;
pub mod headers;
#[cfg(feature = "hedge")]
pub mod hedge;
mod held_body;
#[cfg(feature = "limit")]
pub mod limit;
#[cfg(all(loom, test))]
mod loom_models;
mod metric;
pub mod outcome;
pub mod problem;
pub mod random;
#[cfg(all(feature = "client", feature = "server"))]
pub mod registry;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "server")]
pub mod server;
mod settings;
mod sync;
#[cfg(feature = "throttle")]
pub mod throttle;
#[cfg(feature = "timeout")]
pub mod total_deadline;
pub mod trace;
pub mod trail;
mod window;

pub use breaker_state::BreakerState;
pub use call_error::{CallError, Cause};
pub use config_error::{ConfigError, ConfigProblem};
pub use context::{RepeatedWork, RequestContext};
pub use correlation::CorrelationId;
pub use deadline::Deadline;
pub use endpoint::Endpoint;
pub use error::Error;
pub use gate::Gate;
pub use held_body::HeldBody;
pub use outcome::Outcome;
pub use problem::Problem;
#[cfg(all(feature = "client", feature = "server"))]
pub use registry::Registry;
pub use trace::TraceContext;
pub use trail::DecisionTrail;

/// The examples of the documents, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/symptoms.md")]
struct Documents;
