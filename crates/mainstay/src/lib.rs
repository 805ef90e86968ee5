//! Tower middleware for HTTP services and their clients, built for production incidents.
//!
//! Deadlines that travel, retries that respect unknown outcomes, one classification that every layer
//! reads, exact budgets, and a decision trail that can be written into the record of what happened.
//! The crate knows nothing of the services that use it.

pub mod context;
pub mod correlation;
pub mod deadline;
pub mod headers;
pub mod limit;
pub mod outcome;
pub mod problem;
pub mod server;
pub mod trace;
pub mod trail;

pub use context::RequestContext;
pub use correlation::CorrelationId;
pub use deadline::Deadline;
pub use outcome::Outcome;
pub use problem::Problem;
pub use trace::TraceContext;
pub use trail::DecisionTrail;
