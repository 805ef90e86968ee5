//! What the services share and is not middleware: configuration, identity, request and reply formats, listeners
//! and their shutdown, the operations listener, and the API's own description.
//!
//! [`Assembly`] puts these together, and a service's `startup.rs` adds its own parts. No module here knows of orders or stock.
//!
//! | module | holds |
//! |---|---|
//! | [`program`], [`assembly`] | a service's subcommands, start and end; the assembly of its listeners |
//! | [`config`] | settings from environment and flags, validated whole |
//! | [`auth`] | bearer tokens, roles, who may call what |
//! | [`error`] | from an error to a problem document, in one place |
//! | [`params`] | path and query parameters, pages |
//! | [`json`] | request bodies: limits, duplicate members, field errors, fingerprints |
//! | [`clocks`] | the hybrid clocks that a service hears of: adopted, and offsets flagged |
//! | [`mod@evidence`] | what the middleware saw, for the journal |
//! | [`idempotency`] | the `Idempotency-Key` header |
//! | [`stored`] | replies that the journal stores, and the refusals every command can meet |
//! | [`routes`] | what every router ends with: fallbacks, correlation of problems, the server stack and the tokens |
//! | [`server`] | the accept loop, its time limits, and shutdown in two stages |
//! | [`tasks`] | work that outlives the request that began it, and background loops; the home of `tokio::spawn` |
//! | [`ops`] | the operations listener: liveness, readiness, metrics, administration |
//! | [`journal_feed`], [`schema`], [`migrate`], [`retention`] | a service's own database: its journal, its readiness, its schema, its old keys |
//! | [`unreadable`] | rows that this release cannot read |
//! | [`openapi`] | the API's description as JSON and as a page |
//! | [`healthcheck`] | a probe for containers that have no other HTTP client |

/// For every program that links this crate. Requests are many short allocations on several threads, which glibc's
/// allocator pays for with locks and consolidation: about a tenth of all processor time of the pair under load.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

mod application;
pub mod assembly;
pub mod auth;
pub mod clocks;
pub mod config;
pub mod error;
pub mod evidence;
pub mod healthcheck;
pub mod idempotency;
pub mod journal_feed;
pub mod json;
pub mod migrate;
pub mod openapi;
pub mod ops;
pub mod params;
pub mod problem_document;
pub mod program;
pub mod retention;
pub mod routes;
pub mod schema;
pub mod secret;
pub mod server;
pub mod stored;
pub mod tasks;
pub mod unreadable;

pub use application::{Application, StartError};
pub use assembly::{Assembly, Parts};
pub use auth::{Caller, Principal, Role, Tokens};
pub use error::ApiError;
pub use evidence::evidence;
pub use idempotency::IdempotencyKey;
pub use json::{EmptyBody, MAX_BODY, ValidJson, Validate};
pub use params::{Page, ValidPath, ValidQuery};
pub use secret::Secret;
pub use unreadable::UnreadableRows;
