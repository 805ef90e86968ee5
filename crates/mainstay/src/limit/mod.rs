//! How much work may be in hand at once, and who waits for the rest.
//!
//! A [`Limiter`] is one shared object: clone the `Arc`, never the limiter, and the limit stays one limit however
//! often a layer is applied. It counts permits, keeps a bounded queue in front of them, and asks an [`Algorithm`]
//! what the limit should be. Admission happens inside the call, by a try-acquire or by waiting in the queue, so an
//! idle clone of a service never holds a permit.

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
