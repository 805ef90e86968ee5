//! What the tests of the services and of the pair share: a database for every test, faulty networks, a small HTTP
//! client that remembers what it was told, and waiting for conditions.

pub mod databases;
pub mod eventually;
pub mod proxy;

pub use databases::{TestCluster, TestDatabase};
pub use eventually::{eventually, eventually_now};
