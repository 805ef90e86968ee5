//! Payments with idempotency keys: a repeated request has one effect and gets the same reply.
//!
//! ```sh
//! DATABASE_URL=postgres://localhost/shop cargo run
//! curl -i localhost:8000/payments -H 'Content-Type: application/json' -H 'Idempotency-Key: 0123456789abcdef' -d '{"cents": 990}'
//! ```

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use idempotency::{Claim, Claimed, FingerprintHasher, IdempotencyKey, StoredReply, claim_or_find, complete};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS payments (id uuid PRIMARY KEY, cents bigint NOT NULL)";

#[derive(Debug, Serialize, Deserialize)]
struct Payment {
    cents: i64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    idempotency::migrate(&mut *pool.acquire().await?).await?;
    sqlx::query(TABLE).execute(&pool).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
    axum::serve(listener, Router::new().route("/payments", post(pay)).with_state(pool)).await?;
    Ok(())
}

async fn pay(State(pool): State<PgPool>, key: IdempotencyKey, Json(payment): Json<Payment>) -> Response {
    // The typed request is hashed, so that another spelling of it is the same request.
    let request = serde_json::to_vec(&payment).expect("a payment is a number");
    let claim = Claim {
        // In a service: the authenticated caller.
        principal: "customer".into(),
        key_hash: key.hash(),
        fingerprint: FingerprintHasher::new("shop.v1").part("POST /payments").part(request).finish(),
        command: "pay",
        aggregate_id: Uuid::now_v7(),
    };
    // In a task of its own: a client that disconnects does not drop the transaction.
    match tokio::spawn(carry_out(pool, claim, payment)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
        Err(panic) => (StatusCode::INTERNAL_SERVER_ERROR, panic.to_string()).into_response(),
    }
}

/// Writes key, payment and reply in one transaction.
async fn carry_out(pool: PgPool, claim: Claim, payment: Payment) -> Result<Response, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    match claim_or_find(&mut transaction, &claim).await? {
        Claimed::New => {}
        Claimed::Replay(reply) => return Ok(reply.into_replay()),
        Claimed::InFlight => return Ok((StatusCode::CONFLICT, "the first request is running").into_response()),
        Claimed::Reused => {
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, "the key was used for another request").into_response());
        }
    }
    sqlx::query("INSERT INTO payments VALUES ($1, $2)")
        .bind(claim.aggregate_id)
        .bind(payment.cents)
        .execute(&mut *transaction)
        .await?;
    let body = serde_json::json!({ "id": claim.aggregate_id, "cents": payment.cents });
    let reply = StoredReply::json(201, body.to_string());
    complete(&mut transaction, &claim, &reply).await?;
    transaction.commit().await?;
    Ok(reply.into_response())
}
