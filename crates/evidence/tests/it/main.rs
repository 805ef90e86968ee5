//! Tests of the store through its public interface, on real folders.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so

mod damage;
mod kill;
mod query;
mod support;
mod tiers;
