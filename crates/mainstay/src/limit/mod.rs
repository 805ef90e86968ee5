//! Concurrency limits: how many requests may run at the same time, and which requests wait.
//!
//! A [`Limiter`] is one shared object. Clone the `Arc`, not the limiter: the limit then stays one limit however often
//! a layer is applied. The limiter counts permits, keeps a bounded queue in front of them, and asks an [`Algorithm`]
//! for the limit. A request is admitted inside the call, by a try-acquire or by waiting in the queue, so an idle
//! clone of a service holds no permit.

mod aimd;
mod algorithm;
mod gradient;
mod limiter;
mod permit;
mod queue;
mod rate;
mod window;

#[cfg(test)]
mod adaptive_tests;

pub use aimd::Aimd;
pub use algorithm::{Algorithm, Fixed, Sample, Verdict};
pub use gradient::Gradient;
pub use limiter::{Admission, Limiter, LimiterSnapshot};
pub use permit::{Acquire, Permit};
pub use queue::{QueueConfig, Refusal};
pub use rate::{Allowance, QuotaSpent, RateLimiter};
pub use window::Bounds;

/// The current concurrency limit. One gauge for the process: with several limiters it shows the one that last
/// changed, and [`Registry`](crate::Registry) lists all of them.
pub const LIMIT: &str = "mainstay_server_concurrency_limit";
