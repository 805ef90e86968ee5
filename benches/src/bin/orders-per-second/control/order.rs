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
use journal::{Database, Step};
use order_service::app::view::{OrderView, ReservationView};
use order_service::domain::Status;
use order_service::http::PlaceOrder;
use order_service::store::orders::{ADVANCE, PLACE};
use sqlx::types::Json as Column;
use sqlx::{PgConnection, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{NO_HASH, is_authentic, key, refused, serve, setting, sha256};

#[derive(Clone)]
struct Control {
    database: Database,
    client: Client<HttpConnector, Full<Bytes>>,
    reservations: String,
    token: String,
    accepted: [u8; 32],
}

pub(crate) fn main() -> ExitCode {
    serve(|database| {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let control = Control {
            database,
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

        let new = Placed { key, fingerprint, id, entry, now, reservation_id, order: &order };
        self.database
            .transaction(None, new, |connection, new| {
                Box::pin(async move { new.write(connection).await.map(Step::Commit) })
            })
            .await?;

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
            correlation_id: id.to_string(),
        };
        let reserved = Reserved { key, entry: Uuid::now_v7(), expires_at, view: &view };
        self.database
            .transaction(None, reserved, |connection, reserved| {
                Box::pin(async move { reserved.write(connection).await.map(Step::Commit) })
            })
            .await?;
        Ok(view)
    }
}

struct Placed<'a> {
    key: &'a [u8; 32],
    fingerprint: &'a [u8; 32],
    id: Uuid,
    entry: Uuid,
    now: OffsetDateTime,
    reservation_id: Uuid,
    order: &'a PlaceOrder,
}

impl Placed<'_> {
    async fn write(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let correlation_id = self.id.to_string();
        let placed = sqlx::query(PLACE)
            .bind(self.entry)
            .bind("order")
            .bind(self.id)
            .bind(1_i64)
            .bind("none")
            .bind("reserving")
            .bind(&correlation_id)
            .bind(None::<String>)
            .bind(self.key.as_slice())
            .bind(b"{}".as_slice())
            .bind(NO_HASH)
            .bind("control")
            .bind(self.fingerprint)
            .bind("place")
            .bind(self.id)
            .bind("control")
            .bind(&self.order.customer_id)
            .bind(Column(&self.order.lines))
            .bind("reserving")
            .bind(self.reservation_id)
            .bind(900_i64)
            .bind(&correlation_id)
            .bind(None::<String>)
            .bind(self.now)
            .bind(1_i64)
            .bind(NO_HASH)
            .bind(self.entry)
            .bind(1_i64)
            .bind(4_000_i64)
            .bind("0000000000000000")
            .fetch_one(connection)
            .await?;
        if placed.try_get::<i64, _>(0)? == 1 { Ok(()) } else { Err(refused("the key is taken")) }
    }
}

struct Reserved<'a> {
    key: &'a [u8; 32],
    entry: Uuid,
    expires_at: OffsetDateTime,
    view: &'a OrderView,
}

impl Reserved<'_> {
    async fn write(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let view = self.view;
        let body = serde_json::to_vec(view).map_err(|error| refused(error.to_string()))?;
        let moved = sqlx::query(ADVANCE)
            .bind(self.entry)
            .bind("order")
            .bind(view.id)
            .bind(2_i64)
            .bind("reserving")
            .bind("reserved")
            .bind(&view.correlation_id)
            .bind(None::<String>)
            .bind(self.key.as_slice())
            .bind(b"{}".as_slice())
            .bind(NO_HASH)
            .bind(vec!["place"])
            .bind(vec![201_i16])
            .bind(vec!["application/json"])
            .bind(vec![Some(format!("/v1/orders/{}", view.id))])
            .bind(vec![body])
            .bind(view.id)
            .bind(1_i64)
            .bind(1_i64)
            .bind("reserved")
            .bind(2_i64)
            .bind(NO_HASH)
            .bind(self.entry)
            .bind(self.expires_at)
            .bind(view.updated_at)
            .bind(1_i64)
            .bind(None::<String>)
            .bind(0_i32)
            .bind(None::<i64>)
            .bind("0000000000000000")
            .bind(&view.correlation_id)
            .fetch_one(connection)
            .await?;
        if moved.try_get::<i64, _>(0)? == 1 { Ok(()) } else { Err(refused("the order was moved")) }
    }
}
