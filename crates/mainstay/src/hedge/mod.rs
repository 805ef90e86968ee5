//! Hedging: when a read has taken longer than almost all reads do, ask once more and take the better answer.
//!
//! Cuts the tail that one slow instance or one lost packet makes ("The Tail at Scale", Dean and Barroso, 2013: about 5 %
//! more requests at the 95th percentile). Off by default, since it multiplies load where a peer is slow because it is
//! full; the bounds here are what keeps that small:
//!
//! * Safe methods only, and not when the caller is already retrying.
//! * Each hedge is paid for from the retry budget, so that retries and hedges together keep to one share.
//! * A failure does not win over a call that is still under way.
//! * A call that was given up counts in the percentile with the time it had taken, if that was as long as most reads take;
//!   a caller who left sooner does not count, and neither does a failure, which may have taken no time.
//! * A breaker that is half-open refuses it: of two probes for one read one is dropped, and would have held a place for
//!   nothing.
//!
//! ```
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use mainstay::budget::{BudgetConfig, RetryBudget};
//! use mainstay::hedge::{HedgeConfig, HedgeLayer};
//! use mainstay::CallError;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let peer = service_fn(|_: Request<Bytes>| async { Ok::<_, CallError>(Response::new(Bytes::new())) });
//! let budget = RetryBudget::new(&BudgetConfig::default())?;
//! let client = HedgeLayer::new("inventory", HedgeConfig::default(), budget)?.layer(peer);
//! assert!(client.oneshot(Request::get("http://127.0.0.1/v1/items").body(Bytes::new())?).await.is_ok());
//! # Ok(())
//! # }
//! ```

mod future;
mod latency;
mod service;

use std::time::Duration;

pub use self::future::HedgeFuture;
pub use self::service::{Hedge, HedgeLayer};
use crate::config_error::{Check, ConfigError};

/// Among a request's extensions: it is the second of a pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IsHedge;

/// When a read is asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HedgeConfig {
    /// After as long as this share of recent reads took, in per cent; 50 to 99. Default 95.
    pub percentile: u64,
    /// But not before this; at most 10 min. Default 10 ms: below it there is no tail worth a second request.
    pub least_delay: Duration,
    /// Reads that must have been seen first; 1 to 10,000. Default 20.
    pub min_samples: u64,
    /// How long latencies are remembered: between one and two of this; 1 s to 10 min. Default 10 s.
    pub span: Duration,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self {
            percentile: 95,
            least_delay: Duration::from_millis(10),
            min_samples: 20,
            span: Duration::from_secs(10),
        }
    }
}

impl HedgeConfig {
    /// Checks every range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Check::default();
        check.within("hedge.percentile", &self.percentile, 50..=99, "50 to 99");
        let least = Duration::ZERO..=Duration::from_mins(10);
        check.within("hedge.least_delay", &self.least_delay, least, "at most 10 min");
        check.within("hedge.min_samples", &self.min_samples, 1..=10_000, "1 to 10,000");
        let span = Duration::from_secs(1)..=Duration::from_mins(10);
        check.within("hedge.span", &self.span, span, "1 s to 10 min");
        check.finish()
    }
}
