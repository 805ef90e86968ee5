//! Tests of the inventory service with a real PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unreachable_pub, reason = "the modules of one program")]

mod cancellation;
mod database;
mod documented;
mod expiry;
mod http;
mod idempotency;
mod items;
mod lost_commits;
mod operations;
mod races;
mod reservations;
mod served;
mod sound;
mod support;
