//! The journal on a real PostgreSQL.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so

mod batch;
mod database;
mod journal;
mod keys;
mod restored;
mod sessions;
mod support;
