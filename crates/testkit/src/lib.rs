//! What the tests of the services and of the pair share: a database for every test, services as processes, faulty
//! networks, a small HTTP client that remembers what it was told, waiting for conditions, and the checker at the
//! end.
//!
//! | module | holds |
//! |---|---|
//! | [`databases`] | a private PostgreSQL per process, a migrated copy per test |
//! | [`pair`] | both services for one test, replicas, networks, invariants |
//! | [`proxy`] | networks that fail on command |
//! | [`http`] | the client and its log |
//! | [`nemesis`] | seeded schedules of faults under load, which replay and shrink |
//! | [`cancel`] | leaving in the middle |
//! | [`documented`] | an API held to its description |
//! | [`mod@eventually`] | waiting with a deadline instead of sleeping |

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
