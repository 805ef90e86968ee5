//! The control's inventory service.

use std::process::ExitCode;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use inventory_api::{Reservation, ReservationStatus, ReserveRequest, validate};
use sqlx::{PgPool, Row};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{NO_HASH, is_authentic, key, serve, setting, sha256};

#[derive(Clone)]
struct Control {
    pool: PgPool,
    accepted: [u8; 32],
}

pub(crate) fn main() -> ExitCode {
    serve(|pool| {
        let control = Control { pool, accepted: sha256(setting("PEER_TOKEN").as_bytes()) };
        Router::new().route("/v1/reservations", post(reserve)).with_state(control)
    })
}

async fn reserve(State(control): State<Control>, headers: HeaderMap, body: Bytes) -> Response {
    if !is_authentic(&headers, &control.accepted) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let (Some(key), Ok(request)) = (key(&headers), serde_json::from_slice::<ReserveRequest>(&body)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if !validate::lines(&request.lines).is_empty() {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    match control.carry_out(&key, &sha256(&body), request).await {
        Ok(reservation) => (StatusCode::CREATED, Json(reservation)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl Control {
    async fn carry_out(
        &self,
        key: &[u8; 32],
        fingerprint: &[u8; 32],
        request: ReserveRequest,
    ) -> anyhow::Result<Reservation> {
        let ReserveRequest { reservation_id: id, order_id, lines, hold_seconds } = request;
        let entry = Uuid::now_v7();
        let skus: Vec<_> = lines.iter().map(|line| line.sku.as_str()).collect();
        let quantities: Vec<_> = lines.iter().map(|line| line.quantity).collect();

        let mut tx = self.pool.begin().await?;
        let seen = sqlx::query(
            "SELECT fingerprint, command, aggregate_id, status, content_type, location, entry_id, body
             FROM idempotency WHERE principal = $1 AND key_hash = $2",
        )
        .bind("control")
        .bind(key)
        .fetch_optional(&mut *tx)
        .await?;
        anyhow::ensure!(seen.is_none(), "the key is taken");
        let ground = sqlx::query(
            "WITH known AS MATERIALIZED (SELECT id, order_id, status, lines::text AS lines, hold_seconds,
                     expires_at, correlation_id, version, head_hash, hlc, entry_id
                 FROM reservations WHERE id = $1 FOR NO KEY UPDATE),
             stock AS MATERIALIZED (
                SELECT sku, version, on_hand, held FROM items
                WHERE sku = ANY($2) AND NOT EXISTS (SELECT FROM known)
                ORDER BY sku FOR NO KEY UPDATE)
             SELECT clock_timestamp() AS now, s.skus, s.versions, s.on_hands, s.helds, known.*
             FROM (SELECT array_agg(sku) AS skus, array_agg(version) AS versions, array_agg(on_hand) AS on_hands,
                          array_agg(held) AS helds FROM stock) s
             LEFT JOIN known ON true",
        )
        .bind(id)
        .bind(&skus)
        .fetch_one(&mut *tx)
        .await?;
        let now: OffsetDateTime = ground.try_get("now")?;
        let found: Vec<String> = ground.try_get::<Option<Vec<String>>, _>("skus")?.unwrap_or_default();
        let on_hand: Vec<i64> = ground.try_get::<Option<Vec<i64>>, _>("on_hands")?.unwrap_or_default();
        let held: Vec<i64> = ground.try_get::<Option<Vec<i64>>, _>("helds")?.unwrap_or_default();
        for line in &lines {
            let n = found.iter().position(|sku| *sku == line.sku);
            let n = n.ok_or_else(|| anyhow::anyhow!("no item {}", line.sku))?;
            anyhow::ensure!(on_hand[n] - held[n] >= line.quantity, "not enough {}", line.sku);
        }
        let expires_at = now + Duration::seconds(hold_seconds);
        let reservation = Reservation {
            id,
            order_id: Some(order_id),
            status: ReservationStatus::Held,
            lines: lines.clone(),
            expires_at: Some(expires_at),
        };
        sqlx::query(
            "WITH moved AS (
                UPDATE items i SET held = i.held + l.quantity
                FROM unnest($13::text[], $14::bigint[]) AS l (sku, quantity)
                WHERE i.sku = l.sku RETURNING 1),
            made AS (
                INSERT INTO reservations (id, order_id, status, lines, hold_seconds, expires_at, correlation_id,
                    version, head_hash, hlc, entry_id, created_at, updated_at)
                VALUES ($1, $2, $3, $4::text::jsonb, $5, $6, $7, $8, $9, $10, $11, $12, $12))
            SELECT count(*) FROM moved",
        )
        .bind(id)
        .bind(order_id)
        .bind("held")
        .bind(serde_json::to_string(&lines)?)
        .bind(hold_seconds)
        .bind(expires_at)
        .bind(order_id.to_string())
        .bind(1_i64)
        .bind(NO_HASH)
        .bind("0000000000000000")
        .bind(entry)
        .bind(now)
        .bind(&skus)
        .bind(&quantities)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "WITH entry AS (
                 INSERT INTO journal (id, aggregate_kind, aggregate_id, version, from_state, to_state,
                     correlation_id, trace_id, key_hash, body, hash)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11))
             INSERT INTO idempotency (entry_id, principal, key_hash, fingerprint, command, aggregate_id,
                 completed_at, status, content_type, location, body)
             VALUES ($1, $12, $13, $14, $15, $16, clock_timestamp(), $17, $18, $19, $20)",
        )
        .bind(entry)
        .bind("reservation")
        .bind(id)
        .bind(1_i64)
        .bind("none")
        .bind("held")
        .bind(order_id.to_string())
        .bind(None::<String>)
        .bind(key.as_slice())
        .bind(b"{}".as_slice())
        .bind(NO_HASH)
        .bind("control")
        .bind(key.as_slice())
        .bind(fingerprint)
        .bind("reserve")
        .bind(id)
        .bind(201_i16)
        .bind("application/json")
        .bind(None::<String>)
        .bind(serde_json::to_vec(&reservation)?)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(reservation)
    }
}
