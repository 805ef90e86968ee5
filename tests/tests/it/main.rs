//! The pair as its clients meet it: real processes, real PostgreSQL, and a network that can be made to fail.

#![allow(clippy::unwrap_used)] // a test that cannot go on says so

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
