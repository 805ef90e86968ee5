//! The control's inventory service.

use std::process::ExitCode;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use inventory_api::{Reservation, ReservationStatus, ReserveRequest, validate};
use inventory_service::store::reservations::{CREATE, LOCK_TO_RESERVE};
use journal::{Database, Step};
use sqlx::{PgConnection, Row};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{NO_HASH, is_authentic, key, refused, serve, setting, sha256};

#[derive(Clone)]
struct Control {
    database: Database,
    accepted: [u8; 32],
}

pub(crate) fn main() -> ExitCode {
    serve(|database| {
        let control = Control { database, accepted: sha256(setting("PEER_TOKEN").as_bytes()) };
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
        let input = (key, fingerprint, &request);
        let reserved = self.database.transaction(None, input, |connection, &(key, fingerprint, request)| {
            Box::pin(async move { hold(connection, key, fingerprint, request).await.map(Step::Commit) })
        });
        Ok(reserved.await?)
    }
}

async fn hold(
    connection: &mut PgConnection,
    key: &[u8; 32],
    fingerprint: &[u8; 32],
    ReserveRequest { reservation_id, order_id, lines, hold_seconds }: &ReserveRequest,
) -> Result<Reservation, sqlx::Error> {
    let (id, entry) = (*reservation_id, Uuid::now_v7());
    let skus: Vec<_> = lines.iter().map(|line| line.sku.as_str()).collect();
    let quantities: Vec<_> = lines.iter().map(|line| line.quantity).collect();
    let ground = sqlx::query(LOCK_TO_RESERVE).bind(id).bind(&skus).fetch_one(&mut *connection).await?;
    let now: OffsetDateTime = ground.try_get("now")?;
    let numbers = |name| ground.try_get::<Option<Vec<i64>>, _>(name).map(Option::unwrap_or_default);
    let found = ground.try_get::<Option<Vec<String>>, _>("skus")?.unwrap_or_default();
    let (on_hand, held) = (numbers("on_hands")?, numbers("helds")?);
    for line in lines {
        let available = found.iter().position(|sku| *sku == line.sku).map(|n| on_hand[n] - held[n]);
        if available.is_none_or(|available| available < line.quantity) {
            return Err(refused(format!("not enough {}", line.sku)));
        }
    }
    let expires_at = now + Duration::seconds(*hold_seconds);
    let reservation = Reservation {
        id,
        order_id: Some(*order_id),
        status: ReservationStatus::Held,
        lines: lines.clone(),
        expires_at: Some(expires_at),
    };
    let json = |value: serde_json::Result<String>| value.map_err(|error| refused(error.to_string()));
    let correlation_id = order_id.to_string();
    sqlx::query(CREATE)
        .bind(entry)
        .bind("reservation")
        .bind(id)
        .bind(1_i64)
        .bind("none")
        .bind("held")
        .bind(&correlation_id)
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
        .bind(json(serde_json::to_string(&reservation))?.into_bytes())
        .bind(id)
        .bind(order_id)
        .bind("held")
        .bind(json(serde_json::to_string(lines))?)
        .bind(hold_seconds)
        .bind(expires_at)
        .bind(&correlation_id)
        .bind(1_i64)
        .bind(NO_HASH)
        .bind("0000000000000000")
        .bind(entry)
        .bind(now)
        .bind(&skus)
        .bind(&quantities)
        .execute(connection)
        .await?;
    Ok(reservation)
}
