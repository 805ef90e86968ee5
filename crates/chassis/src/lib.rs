#![doc = include_str!("../README.md")]

mod application;
#[cfg(feature = "service")]
pub mod assembly;
#[cfg(feature = "auth")]
pub mod auth;
#[cfg(feature = "database")]
pub mod clocks;
pub mod config;
#[cfg(feature = "service")]
mod database_time;
pub mod error;
#[cfg(feature = "service")]
pub mod events;
#[cfg(feature = "database")]
pub mod evidence;
pub mod healthcheck;
mod hex;
pub mod idempotency;
#[cfg(feature = "database")]
pub mod journal_feed;
#[cfg(feature = "database")]
pub mod json;
#[cfg(feature = "database")]
pub mod migrate;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod ops;
pub mod params;
#[cfg(feature = "openapi")]
pub mod problem_document;
pub mod program;
#[cfg(feature = "database")]
pub mod retention;
pub mod routes;
#[cfg(feature = "database")]
pub mod schema;
pub mod secret;
pub mod server;
#[cfg(feature = "database")]
pub mod stored;
pub mod tasks;
#[cfg(feature = "database")]
pub mod unreadable;

#[cfg(feature = "database")]
pub use self::evidence::evidence;
pub use application::{Application, StartError};
#[cfg(feature = "service")]
pub use assembly::{Assembly, Parts};
#[cfg(feature = "auth")]
pub use auth::{Caller, Principal, Role, Tokens};
pub use error::ApiError;
pub use idempotency::IdempotencyKey;
#[cfg(feature = "database")]
pub use json::{EmptyBody, MAX_BODY, ValidJson, Validate};
pub use params::{Page, ValidPath, ValidQuery};
pub use secret::Secret;
#[cfg(feature = "database")]
pub use unreadable::UnreadableRows;
