//! Tests of the whole pair through its public interfaces: real processes, real PostgreSQL, and proxies that make the
//! network fail.

#![allow(clippy::unwrap_used)] // a test may panic

mod checked;
mod clients;
mod commits;
mod compatible;
mod crash;
mod crash_matrix;
mod database;
mod documented;
mod idempotency;
mod isolation;
mod metrics;
mod nemesis;
mod older_release;
mod races;
mod restored;
mod signals;
#[cfg(target_os = "linux")]
mod skew;
mod statuses;
mod support;
mod unknown;
mod unreadable;
