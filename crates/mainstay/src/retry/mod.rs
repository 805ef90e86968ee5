//! Retries that cannot make things worse: bounded in number, in share of the load and in time, and never of a call that
//! may have happened unless repeating it is harmless.
//!
//! | what became of the attempt | tried again? |
//! |---|---|
//! | failed-known, throttled | yes: it had no effect |
//! | unknown | only a safe method, or with an `Idempotency-Key`, which stays the same |
//! | success, refused, client-fault | no: it is an answer |
//! | rejected-unsent | no: our own layers will say the same again, and nothing was spent |
//!
//! A request whose own caller is already retrying (`attempt` above 1 in its [`RequestContext`](crate::RequestContext))
//! is not retried: three layers of three attempts are 27 calls.
//!
//! Once an attempt's effect is unknown, the whole stays unknown until the peer settles it: a later attempt that was
//! refused by our breaker, that the peer did not execute, or that was answered 409 or 425 without `X-Outcome` (the first
//! may still be worked on), says nothing about the first. The caller then gets
//! [`CallError::EarlierAttemptUnknown`](crate::CallError::EarlierAttemptUnknown).
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use mainstay::retry::{RetryConfig, RetryLayer};
//! use mainstay::{CallError, budget::RetryBudget, random::Random};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//! let flaky = service_fn(|_: Request<Bytes>| async {
//!     let status = if CALLS.fetch_add(1, Ordering::Relaxed) == 0 { 502 } else { 200 };
//!     Ok::<_, CallError>(Response::builder().status(status).body(Bytes::new()).unwrap())
//! });
//! let config = RetryConfig::default();
//! let budget = RetryBudget::new(&config.budget)?;
//! let client = RetryLayer::new("inventory", config, budget, Random::from_entropy())?.layer(flaky);
//! let reply = client.oneshot(Request::get("http://127.0.0.1/").body(Bytes::new())?).await?;
//! assert_eq!((reply.status().as_u16(), CALLS.load(Ordering::Relaxed)), (200, 2));
//! # Ok(())
//! # }
//! ```

pub(crate) mod backoff;
mod config;
mod future;
mod service;

pub use self::config::RetryConfig;
pub use self::future::RetryFuture;
pub use self::service::{Retry, RetryLayer};
