//! The control: the API and the SQL of the pair without its middleware, evidence and hash chain.
//!
//! It keeps what any correct service needs: authentication, validation of the body, idempotency keys, a journal row
//! for every transition in the transaction that makes it. Statements, transactions and pool are the pair's own, so that
//! the difference between the two is what the pair adds around them.

pub(crate) mod inventory;
pub(crate) mod order;

use std::process::ExitCode;

use axum::Router;
use axum::http::HeaderMap;
use journal::Database;
use journal::database::Limits;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;

/// Hash and body are there, and are not computed.
const NO_HASH: [u8; 32] = [0; 32];

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// The token's hash is looked up, as the pair does.
fn is_authentic(headers: &HeaderMap, accepted: &[u8; 32]) -> bool {
    let token = headers.get("authorization").and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
    token.is_some_and(|token| sha256(token.as_bytes()) == *accepted)
}

fn key(headers: &HeaderMap) -> Option<[u8; 32]> {
    headers.get("idempotency-key").map(|key| sha256(key.as_bytes()))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn serve(build: impl FnOnce(Database) -> Router) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime for the control");
    runtime.block_on(async {
        let options: PgConnectOptions = setting("DATABASE_URL").parse().expect("a database URL");
        let address = setting("LISTEN_ADDR");
        let listener = tokio::net::TcpListener::bind(&address).await.expect("a free port");
        let router = build(Database::new(options, Limits::default()));
        axum::serve(listener, router).await.expect("the control serves until it is killed");
    });
    ExitCode::SUCCESS
}

/// Something about a request that the database does not object to, and the control does.
fn refused(what: impl Into<String>) -> sqlx::Error {
    sqlx::Error::Protocol(what.into())
}
