//! The control's order service.

use std::process::ExitCode;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use inventory_api::{Reservation, ReserveRequest, validate};
use order_service::app::view::{OrderView, ReservationView};
use order_service::domain::Status;
use order_service::http::PlaceOrder;
use sqlx::PgPool;
use sqlx::types::Json as Column;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{CLAIM_AND_ENTRY, NO_HASH, is_authentic, key, serve, setting, sha256};

#[derive(Clone)]
struct Control {
    pool: PgPool,
    client: Client<HttpConnector, Full<Bytes>>,
    reservations: String,
    token: String,
    accepted: [u8; 32],
}

pub(crate) fn main() -> ExitCode {
    serve(|pool| {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let control = Control {
            pool,
            client: Client::builder(TokioExecutor::new()).build(connector),
            reservations: format!("{}/v1/reservations", setting("INVENTORY_URL")),
            token: format!("Bearer {}", setting("PEER_TOKEN")),
            accepted: sha256(setting("CLIENT_TOKEN").as_bytes()),
        };
        Router::new().route("/v1/orders", post(place)).with_state(control)
    })
}

async fn place(State(control): State<Control>, headers: HeaderMap, body: Bytes) -> Response {
    if !is_authentic(&headers, &control.accepted) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let (Some(key), Ok(order)) = (key(&headers), serde_json::from_slice::<PlaceOrder>(&body)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if !validate::lines(&order.lines).is_empty() || !validate::is_identifier(&order.customer_id) {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    match control.carry_out(&key, &sha256(&body), order).await {
        Ok(view) => (StatusCode::CREATED, Json(view)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl Control {
    async fn carry_out(
        &self,
        key: &[u8; 32],
        fingerprint: &[u8; 32],
        order: PlaceOrder,
    ) -> anyhow::Result<OrderView> {
        let (id, entry, now) = (Uuid::now_v7(), Uuid::now_v7(), OffsetDateTime::now_utc());
        let reservation_id = Uuid::new_v5(&id, b"reservation");
        let correlation_id = id.to_string();

        let mut tx = self.pool.begin().await?;
        let claimed = sqlx::query(CLAIM_AND_ENTRY)
            .bind(entry)
            .bind("order")
            .bind(id)
            .bind(1_i64)
            .bind("none")
            .bind("reserving")
            .bind(&correlation_id)
            .bind(None::<String>)
            .bind(key.as_slice())
            .bind(b"{}".as_slice())
            .bind(NO_HASH)
            .bind("control")
            .bind(fingerprint)
            .bind("place")
            .execute(&mut *tx)
            .await?;
        anyhow::ensure!(claimed.rows_affected() == 1, "the key is taken");
        sqlx::query(
            "INSERT INTO orders (id, principal, customer_id, lines, status, reservation_id, hold_seconds,
                 correlation_id, trace_id, created_at, updated_at, version, head_hash, head_entry, epoch, holder,
                 due_at, head_clock, head_correlation_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12, $13, $14, 'request',
                 clock_timestamp() + $15 * interval '1 millisecond', $16, $8)",
        )
        .bind(id)
        .bind("control")
        .bind(&order.customer_id)
        .bind(Column(&order.lines))
        .bind("reserving")
        .bind(reservation_id)
        .bind(900_i64)
        .bind(&correlation_id)
        .bind(None::<String>)
        .bind(now)
        .bind(1_i64)
        .bind(NO_HASH)
        .bind(entry)
        .bind(1_i64)
        .bind(4_000_i64)
        .bind("0000000000000000")
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;

        let request =
            ReserveRequest { reservation_id, order_id: id, lines: order.lines.clone(), hold_seconds: 900 };
        let request = http::Request::post(&self.reservations)
            .header("authorization", &self.token)
            .header("content-type", "application/json")
            .header("idempotency-key", Uuid::new_v5(&id, b"reserve:1").to_string())
            .body(Full::from(serde_json::to_vec(&request)?))?;
        let reply = self.client.request(request).await?;
        let status = reply.status();
        let body = reply.into_body().collect().await?.to_bytes();
        anyhow::ensure!(status == StatusCode::CREATED, "inventory said {status}");
        let reservation: Reservation = serde_json::from_slice(&body)?;
        let expires_at = reservation.expires_at.ok_or_else(|| anyhow::anyhow!("no expiry"))?;

        let view = OrderView {
            id,
            status: Status::Reserved,
            version: 2,
            customer_id: order.customer_id,
            lines: order.lines,
            reservation: Some(ReservationView { id: reservation_id, expires_at }),
            created_at: now,
            updated_at: OffsetDateTime::now_utc(),
            correlation_id: correlation_id.clone(),
        };
        let entry = Uuid::now_v7();
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "UPDATE orders SET status = $4, version = $5, head_hash = $6, head_entry = $7, expires_at = $8,
                 updated_at = $9, epoch = $10, holder = $11, tries = $12,
                 due_at = clock_timestamp() + $13 * interval '1 millisecond', head_clock = $14,
                 head_correlation_id = $15
             WHERE id = $1 AND version = $2 AND epoch = $3",
        )
        .bind(id)
        .bind(1_i64)
        .bind(1_i64)
        .bind("reserved")
        .bind(2_i64)
        .bind(NO_HASH)
        .bind(entry)
        .bind(expires_at)
        .bind(view.updated_at)
        .bind(1_i64)
        .bind(None::<String>)
        .bind(0_i32)
        .bind(None::<i64>)
        .bind("0000000000000000")
        .bind(&correlation_id)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "WITH entry AS (
                 INSERT INTO journal (id, aggregate_kind, aggregate_id, version, from_state, to_state,
                     correlation_id, trace_id, key_hash, body, hash)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11))
             UPDATE idempotency k SET completed_at = clock_timestamp(), entry_id = $1, status = r.status,
                 content_type = r.content_type, location = r.location, body = r.body
             FROM unnest($12::text[], $13::smallint[], $14::text[], $15::text[], $16::bytea[])
                 AS r (command, status, content_type, location, body)
             WHERE k.aggregate_id = $3 AND k.command = r.command AND k.completed_at IS NULL",
        )
        .bind(entry)
        .bind("order")
        .bind(id)
        .bind(2_i64)
        .bind("reserving")
        .bind("reserved")
        .bind(&correlation_id)
        .bind(None::<String>)
        .bind(key.as_slice())
        .bind(b"{}".as_slice())
        .bind(NO_HASH)
        .bind(vec!["place"])
        .bind(vec![201_i16])
        .bind(vec!["application/json"])
        .bind(vec![Some(format!("/v1/orders/{id}"))])
        .bind(vec![serde_json::to_vec(&view)?])
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(view)
    }
}
