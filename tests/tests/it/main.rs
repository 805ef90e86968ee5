//! The pair as its clients meet it: real processes, real PostgreSQL, and a network that can be made to fail.

#![allow(clippy::unwrap_used)] // a test that cannot go on says so

mod checked;
mod clients;
mod commits;
mod crash;
mod crash_matrix;
mod database;
mod documented;
mod idempotency;
mod nemesis;
mod races;
mod restored;
#[cfg(target_os = "linux")]
mod skew;
mod statuses;
mod support;
mod unknown;
mod unreadable;
