//! Tests of the order service's use cases with a real PostgreSQL and an inventory that never answers.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod holds;
mod late;
mod leases;
mod operated;
mod overtaken;
mod support;
mod unreadable;
