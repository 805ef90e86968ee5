//! Fault injection: latency, errors, hangs, replies lost after the effect, and garbage, on either side of a
//! connection. For drills and tests, behind the feature `faults`.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use mainstay::fault::{ClientFaultLayer, FaultSpec, Faults};
//! use mainstay::{CallError, Outcome};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let faults = Faults::default();
//! let transport = service_fn(|_: Request<Bytes>| async { Ok::<_, CallError>(Response::new(Bytes::new())) });
//! let client = ClientFaultLayer::new(&faults, "inventory-client").layer(transport);
//!
//! let spec: FaultSpec = serde_json::from_str(r#"{"fault": "reply-lost", "times": 1}"#)?;
//! faults.put("inventory-client", spec)?;
//! let request = || Request::post("http://127.0.0.1:8081/v1/reservations").body(Bytes::new());
//! let error = client.clone().oneshot(request()?).await.unwrap_err();
//! assert_eq!(error.outcome(), Outcome::Unknown);
//! assert!(client.oneshot(request()?).await.is_ok());
//! # Ok(())
//! # }
//! ```

mod registry;
mod service;
mod spec;

pub use self::registry::{FaultStatus, Faults};
pub use self::service::{
    ClientFault, ClientFaultLayer, FaultFuture, FaultLayer, FaultService, FaultSide, Injected, ServerFault,
    ServerFaultLayer,
};
pub use self::spec::{Fault, FaultError, FaultSpec, Loss};
