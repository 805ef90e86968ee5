//! The control's inventory service.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::ExitCode;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use inventory_api::{Reservation, ReservationStatus, ReserveRequest, validate};
use inventory_service::store::reservations::CREATE;
use inventory_service::store::reserve::LOCK;
use journal::append::column;
use journal::{Batch, Step};
use sqlx::{PgConnection, Row};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{NO_HASH, is_authentic, key, refused, serve, setting, sha256};

#[derive(Clone)]
struct Control {
    reserving: Batch<Asked, Reservation>,
    accepted: [u8; 32],
}

#[derive(Debug)]
struct Asked {
    key: [u8; 32],
    fingerprint: [u8; 32],
    entry: Uuid,
    correlation_id: String,
    request: ReserveRequest,
}

pub(crate) fn main() -> ExitCode {
    serve(|database| {
        let reserving = Batch::new(database, |_| 1, |connection, all| Box::pin(hold(connection, all)));
        let control = Control { reserving, accepted: sha256(setting("PEER_TOKEN").as_bytes()) };
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
    let (entry, correlation_id) = (Uuid::now_v7(), request.order_id.to_string());
    let asked = Asked { key, fingerprint: sha256(&body), entry, correlation_id, request };
    match control.reserving.write(None, Arc::new(asked)).await {
        Ok(reservation) => (StatusCode::CREATED, Json(reservation)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn hold(
    connection: &mut PgConnection,
    all: &[Arc<Asked>],
) -> Result<Step<Vec<Reservation>>, sqlx::Error> {
    let lines = || all.iter().flat_map(|asked| &*asked.request.lines);
    let ids = column(all, |asked| asked.request.reservation_id);
    let skus: BTreeSet<_> = lines().map(|line| line.sku.as_str()).collect();
    let skus: Vec<_> = skus.into_iter().collect();
    let ground = sqlx::query(LOCK).bind(&ids).bind(&skus).fetch_one(&mut *connection).await?;
    let now: OffsetDateTime = ground.try_get("now")?;
    let numbers = |name| ground.try_get::<Option<Vec<i64>>, _>(name).map(Option::unwrap_or_default);
    let found = ground.try_get::<Option<Vec<String>>, _>("skus")?.unwrap_or_default();
    let available =
        numbers("on_hands")?.into_iter().zip(numbers("helds")?).map(|(on_hand, held)| on_hand - held);
    let mut available: HashMap<_, _> = found.iter().map(String::as_str).zip(available).collect();
    let mut sums = BTreeMap::<&str, i64>::new();
    for line in lines() {
        *sums.entry(&line.sku).or_default() += line.quantity;
        let left = available.entry(&line.sku).or_default();
        *left -= line.quantity;
        if *left < 0 {
            return Err(refused(format!("not enough stock of {}", line.sku)));
        }
    }
    let reservations = column(all, |asked| Reservation {
        id: asked.request.reservation_id,
        order_id: Some(asked.request.order_id),
        status: ReservationStatus::Held,
        lines: asked.request.lines.to_vec(),
        expires_at: Some(now + Duration::seconds(asked.request.hold_seconds)),
    });
    let json = |value: serde_json::Result<String>| value.map_err(|error| refused(error.to_string()));
    let bodies: Vec<_> =
        reservations.iter().map(|r| json(serde_json::to_string(r))).collect::<Result<_, _>>()?;
    let all_lines: Vec<_> =
        reservations.iter().map(|r| json(serde_json::to_string(&r.lines))).collect::<Result<_, _>>()?;
    sqlx::query(CREATE)
        .bind(column(all, |a| a.entry))
        .bind(column(all, |_| "reservation"))
        .bind(&ids)
        .bind(column(all, |_| 1_i64))
        .bind(column(all, |_| "none"))
        .bind(column(all, |_| "held"))
        .bind(column(all, |a| a.correlation_id.as_str()))
        .bind(column(all, |_| None::<&str>))
        .bind(column(all, |a| a.key.as_slice()))
        .bind(column(all, |_| b"{}".as_slice()))
        .bind(column(all, |_| NO_HASH.as_slice()))
        .bind(&ids)
        .bind(column(all, |_| "control"))
        .bind(column(all, |a| a.key.as_slice()))
        .bind(column(all, |a| a.fingerprint.as_slice()))
        .bind(column(all, |_| "reserve"))
        .bind(column(all, |_| 201_i16))
        .bind(column(all, |_| "application/json"))
        .bind(column(all, |_| None::<&str>))
        .bind(column(&bodies, String::as_bytes))
        .bind(&ids)
        .bind(column(all, |a| a.request.order_id))
        .bind(column(all, |_| "held"))
        .bind(&all_lines)
        .bind(column(all, |a| a.request.hold_seconds))
        .bind(column(&reservations, |r| r.expires_at))
        .bind(column(all, |a| a.correlation_id.as_str()))
        .bind(column(all, |_| 1_i64))
        .bind(column(all, |_| NO_HASH.as_slice()))
        .bind(column(all, |_| "0000000000000000"))
        .bind(column(all, |a| a.entry))
        .bind(now)
        .bind(sums.keys().copied().collect::<Vec<_>>())
        .bind(sums.values().copied().collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(Step::Commit(reservations))
}
