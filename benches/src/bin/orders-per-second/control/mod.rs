//! The control: the API and the SQL of the pair without its middleware, evidence and hash chain.
//!
//! It keeps what any correct service needs: authentication, validation of the body, idempotency keys, a journal row
//! for every transition in the transaction that makes it. The statements are the pair's, so that the difference
//! between the two is what the pair adds around them.

pub(crate) mod inventory;
pub(crate) mod order;

use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// Connections of each service, as in the pair.
const CONNECTIONS: u32 = 16;

/// Hash and body are there, and are not computed.
const CLAIM_AND_ENTRY: &str = "WITH claimed AS (
    INSERT INTO idempotency (principal, key_hash, fingerprint, command, aggregate_id)
    VALUES ($12, $9, $13, $14, $3) ON CONFLICT DO NOTHING RETURNING 1)
    INSERT INTO journal (id, aggregate_kind, aggregate_id, version, from_state, to_state,
        correlation_id, trace_id, key_hash, body, hash)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 FROM claimed";

/// As in the pair.
const PLANS: [(&str, &str); 2] = [("plan_cache_mode", "force_generic_plan"), ("random_page_cost", "1.1")];

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

fn serve(build: impl FnOnce(PgPool) -> Router) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime for the control");
    runtime.block_on(async {
        let options: PgConnectOptions = setting("DATABASE_URL").parse().expect("a database URL");
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options.options(PLANS));
        let address = setting("LISTEN_ADDR");
        let listener = tokio::net::TcpListener::bind(&address).await.expect("a free port");
        axum::serve(listener, build(pool)).await.expect("the control serves until it is killed");
    });
    ExitCode::SUCCESS
}
