//! Hedging: when a read has taken longer than almost all reads do, send it a second time and use the better answer.
//!
//! Hedging cuts the latency tail that one slow instance or one lost packet causes ("The Tail at Scale", Dean and
//! Barroso, 2013: about 5 % more requests at the 95th percentile). It is off by default, because it multiplies load
//! where a peer is slow from overload. These bounds keep that load small:
//!
//! * Safe methods only, and not when the caller already retries.
//! * Each hedge is withdrawn from the retry budget, so that retries and hedges together stay within one share.
//! * A failure does not win over a call that is still in flight.
//! * A call that was dropped counts in the percentile with its time so far, if it waited as long as most reads take.
//!   A caller that left sooner does not count. A failure does not count, because it may have taken no time.
//! * A half-open breaker refuses the hedge: one of two probes for one read is dropped, and would take a probe from
//!   another call.
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
use crate::settings::settings;

settings! {
    /// Settings of hedging.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct HedgeConfig {
        /// Percentile of recent latencies after which a read is sent a second time, in per cent; 50 to 99. Default 95.
        pub percentile: u64 = 95,
        /// Shortest delay before the second request; at most 10 min. Default 10 ms: below it there is no tail worth a
        /// second request.
        pub least_delay: Duration = Duration::from_millis(10),
        /// Reads that must be observed first; 1 to 10,000. Default 20.
        pub min_samples: u64 = 20,
        /// Span for which latencies are remembered: between one and two spans; 1 s to 10 min. Default 10 s.
        pub span: Duration = Duration::from_secs(10),
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
