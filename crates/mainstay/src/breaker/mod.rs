//! Circuit breaker: stops calls to an endpoint that fails or is slow, and lets traffic return step by step.
//!
//! Each endpoint (host and port) has its own breaker, so that a dead instance does not stop calls to healthy ones.
//! The window slides continuously and costs the same at any call rate. [`BreakerConfig`] has the rules and the
//! sources of their numbers.
//!
//! ```text
//!            rate or consecutive rule                    wait over, a call comes
//!   closed ───────────────────────────▶ open ───────────────────────────────────▶ half-open
//!     ▲                                  ▲ ▲                                        │    │
//!     │ ramp over                        │ └── a probe failed, or none was answered ┘    │
//!     └────────────── ramping ───────────┘ rules                                         │
//!                        ▲──────────────────────────────────────── every probe succeeded ┘
//! ```
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use mainstay::breaker::{BreakerConfig, BreakerLayer, BreakerState, Breakers};
//! use mainstay::{CallError, random::Random};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let breakers = Breakers::new("inventory", BreakerConfig::default(), Random::from_entropy())?;
//! let peer = service_fn(|_: Request<Bytes>| async {
//!     Ok::<_, CallError>(Response::builder().status(500).body(Bytes::new()).unwrap())
//! });
//! let client = BreakerLayer::new(breakers.clone()).layer(peer);
//! for _ in 0..5 {
//!     let request = Request::get("http://127.0.0.1:8081/v1/items").body(Bytes::new())?;
//!     assert_eq!(client.clone().oneshot(request).await?.status(), 500);
//! }
//! let breaker = breakers.get("127.0.0.1:8081").unwrap();
//! assert_eq!(breaker.state(), BreakerState::Open);
//! let request = Request::get("http://127.0.0.1:8081/v1/items").body(Bytes::new())?;
//! assert!(matches!(client.oneshot(request).await, Err(CallError::BreakerRejected { .. })));
//! # Ok(())
//! # }
//! ```

mod cell;
mod config;
pub(crate) mod core;
mod facts;
mod pace;
mod permit;
mod registry;
mod service;
mod word;

pub use self::config::BreakerConfig;
pub use self::permit::Permit;
pub use self::registry::{BreakerHandle, BreakerSnapshot, Breakers};
pub use self::service::{Breaker, BreakerFuture, BreakerLayer, Permitted};
pub use crate::breaker_state::BreakerState;
