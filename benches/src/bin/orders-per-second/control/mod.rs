//! The control: the API and the SQL of the pair, without its middleware, evidence and hash chain.
//!
//! The control has the parts that any correct service needs: authentication, validation of the body, idempotency keys,
//! and a journal row for every transition, in the transaction that makes the transition. Its statements, transactions
//! and pool are those of the pair. So the difference between the two is the cost of the parts that the pair adds.

pub(crate) mod inventory;
pub(crate) mod order;

use std::process::ExitCode;

use axum::Router;
use axum::http::HeaderMap;
use journal::Database;
use journal::database::Limits;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;

/// Constant in place of the hashes: the columns are written, but no hash is computed.
const NO_HASH: [u8; 32] = [0; 32];

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// Compares the hash of the bearer token, as the pair does.
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
    let runtime =
        tokio::runtime::Runtime::new().expect("the operating system gives threads for the control's runtime");
    runtime.block_on(async {
        let options: PgConnectOptions =
            setting("DATABASE_URL").parse().expect("DATABASE_URL is a database URL");
        let address = setting("LISTEN_ADDR");
        let listener =
            tokio::net::TcpListener::bind(&address).await.expect("the port in LISTEN_ADDR is free");
        let router = build(Database::keyed(options, Limits::default()));
        axum::serve(listener, router).await.expect("the control serves until it is killed");
    });
    ExitCode::SUCCESS
}

/// Error for a request that the control refuses although the database would accept it.
fn refused(reason: impl Into<String>) -> sqlx::Error {
    sqlx::Error::Protocol(reason.into())
}
