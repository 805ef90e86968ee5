//! What the tests of the services and of the pair share: faulty networks, waiting for conditions, …

pub mod eventually;
pub mod proxy;

pub use eventually::{eventually, eventually_now};
