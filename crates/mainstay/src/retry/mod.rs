//! Retries that cannot make an incident worse: they are bounded in number, in share of the load and in time. A call
//! that may have had its effect is repeated only when a repeat is harmless.
//!
//! | outcome of the attempt | retried? |
//! |---|---|
//! | failed-known, throttled | yes: it had no effect |
//! | unknown | only with a safe method, or with an `Idempotency-Key`, which stays the same |
//! | success, refused, client-fault | no: it is an answer |
//! | rejected-unsent | no: our own layers would refuse the retry too, and no call was sent |
//!
//! A request whose own caller already retries (`attempt` above 1 in its [`RequestContext`](crate::RequestContext)) is
//! not retried: three layers of three attempts are 27 calls.
//!
//! Once the effect of an attempt is unknown, the outcome of the whole call stays unknown until the peer settles it. A
//! later attempt shows nothing of the first when our breaker refused it, when the peer did not execute it, or when
//! the peer answered 409 or 425 without `X-Outcome`, because the first attempt may still be in progress. The caller
//! then gets [`CallError::EarlierAttemptUnknown`](crate::CallError::EarlierAttemptUnknown).
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
mod repeat;
mod rules;
mod service;

pub use self::config::RetryConfig;
pub use self::future::RetryFuture;
pub use self::repeat::{HttpRepeat, OnlyUnexecuted, Repeat, Repeatable};
pub use self::service::{Retry, RetryLayer};
