//! Shared tools for the tests of the services and of the pair.
//!
//! | module | holds |
//! |---|---|
//! | [`databases`] | a private PostgreSQL for each test process and a migrated database for each test |
//! | [`pair`] | both services as processes for one test: replicas, networks, check of the invariants |
//! | [`proxy`] | proxies that inject network faults |
//! | [`http`] | an HTTP client that logs its requests and replies for the checker |
//! | [`nemesis`] | fault schedules drawn from a seed and run under load; a schedule can be replayed and shrunk |
//! | [`cancel`] | cancelling a future at a chosen await |
//! | [`documented`] | comparison of a service with its OpenAPI document |
//! | [`mod@eventually`] | waiting for a condition with a deadline instead of sleeping |

pub mod cancel;
pub mod databases;
pub mod documented;
pub mod eventually;
pub mod http;
pub mod nemesis;
pub mod pair;
pub mod proxy;

pub use cancel::cut_after;
pub use databases::{TestCluster, TestDatabase};
pub use eventually::{eventually, eventually_now, in_time};
pub use http::{Client, Reply, RequestLog};
pub use pair::{TestPair, Who};
