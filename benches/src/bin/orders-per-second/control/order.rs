//! The control's order service.

use std::process::ExitCode;
use std::sync::Arc;

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
use inventory_api::{Line, Reservation, ReserveRequest, validate};
use journal::append::column;
use journal::{Batch, Step};
use order_service::app::{OrderView, ReservationView};
use order_service::domain::Status;
use order_service::http::PlaceOrder;
use order_service::store::{CREATE, TRANSITION};
use sqlx::PgConnection;
use sqlx::types::Json as Column;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{NO_HASH, is_authentic, key, serve, setting, sha256};

#[derive(Clone)]
struct Control {
    placing: Batch<Placed, bool>,
    reserving: Batch<Reserved, bool>,
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
            placing: Batch::new(
                database.clone(),
                |_| 1,
                |connection, all| Box::pin(write_placed(connection, all)),
            ),
            reserving: Batch::new(
                database,
                |_| 1,
                |connection, all| Box::pin(write_reserved(connection, all)),
            ),
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
    match control.carry_out(key, sha256(&body), order).await {
        Ok(view) => (StatusCode::CREATED, Json(view)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl Control {
    async fn carry_out(
        &self,
        key: [u8; 32],
        fingerprint: [u8; 32],
        order: PlaceOrder,
    ) -> anyhow::Result<OrderView> {
        let (id, entry, now) = (Uuid::now_v7(), Uuid::now_v7(), OffsetDateTime::now_utc());
        let reservation_id = Uuid::new_v5(&id, b"reservation");
        let correlation_id = id.to_string().into();
        let (customer_id, lines) = (order.customer_id.into(), order.lines.into());
        let order = Order { id, now, customer_id, lines, reservation_id, correlation_id };
        let new = Arc::new(Placed { key, fingerprint, entry, order });
        anyhow::ensure!(self.placing.write(None, Arc::clone(&new)).await?, "the idempotency key is in use");
        let Order { customer_id, lines, correlation_id, .. } = Arc::unwrap_or_clone(new).order;

        let request =
            ReserveRequest { reservation_id, order_id: id, lines: Arc::clone(&lines), hold_seconds: 900 };
        let request = http::Request::post(&self.reservations)
            .header("authorization", &self.token)
            .header("content-type", "application/json")
            .header("idempotency-key", Uuid::new_v5(&id, b"reserve:1").to_string())
            .body(Full::from(serde_json::to_vec(&request)?))?;
        let reply = self.client.request(request).await?;
        let status = reply.status();
        let body = reply.into_body().collect().await?.to_bytes();
        anyhow::ensure!(status == StatusCode::CREATED, "inventory answered {status}");
        let reservation: Reservation = serde_json::from_slice(&body)?;
        let expires_at =
            reservation.expires_at.ok_or_else(|| anyhow::anyhow!("the reservation has no expiry"))?;

        let view = OrderView {
            id,
            status: Status::Reserved.into(),
            version: 2,
            customer_id,
            lines,
            reservation: Some(ReservationView { id: reservation_id, expires_at }),
            created_at: now,
            updated_at: OffsetDateTime::now_utc(),
            correlation_id,
        };
        let body = serde_json::to_vec(&view)?;
        let location = format!("/v1/orders/{id}");
        let reserved = Reserved { key, entry: Uuid::now_v7(), expires_at, view, body, location };
        let reserved = Arc::new(reserved);
        anyhow::ensure!(
            self.reserving.write(None, Arc::clone(&reserved)).await?,
            "the order changed concurrently"
        );
        Ok(Arc::unwrap_or_clone(reserved).view)
    }
}

#[derive(Clone)]
struct Placed {
    key: [u8; 32],
    fingerprint: [u8; 32],
    entry: Uuid,
    order: Order,
}

#[derive(Clone)]
struct Order {
    id: Uuid,
    now: OffsetDateTime,
    customer_id: Arc<str>,
    lines: Arc<[Line]>,
    reservation_id: Uuid,
    correlation_id: Arc<str>,
}

async fn write_placed(
    connection: &mut PgConnection,
    all: &[Arc<Placed>],
) -> Result<Step<Vec<bool>>, sqlx::Error> {
    let placed = sqlx::query_scalar(CREATE)
        .bind(column(all, |p| p.entry))
        .bind(column(all, |_| "order"))
        .bind(column(all, |p| p.order.id))
        .bind(column(all, |_| 1_i64))
        .bind(column(all, |_| "none"))
        .bind(column(all, |_| "reserving"))
        .bind(column(all, |p| &*p.order.correlation_id))
        .bind(column(all, |_| None::<&str>))
        .bind(column(all, |p| p.key.as_slice()))
        .bind(column(all, |_| b"{}".as_slice()))
        .bind(column(all, |_| NO_HASH.as_slice()))
        .bind(column(all, |_| "control"))
        .bind(column(all, |p| p.fingerprint.as_slice()))
        .bind(column(all, |_| "place"))
        .bind(column(all, |p| p.order.id))
        .bind(column(all, |_| "control"))
        .bind(column(all, |p| &*p.order.customer_id))
        .bind(column(all, |p| Column(&*p.order.lines)))
        .bind(column(all, |_| "reserving"))
        .bind(column(all, |p| p.order.reservation_id))
        .bind(column(all, |_| 900_i64))
        .bind(column(all, |p| &*p.order.correlation_id))
        .bind(column(all, |_| None::<&str>))
        .bind(column(all, |p| p.order.now))
        .bind(column(all, |_| 1_i64))
        .bind(column(all, |_| NO_HASH.as_slice()))
        .bind(column(all, |p| p.entry))
        .bind(column(all, |_| 1_i64))
        .bind(column(all, |_| 4_000_i64))
        .bind(column(all, |_| "0000000000000000"))
        .fetch_all(connection)
        .await?;
    Ok(Step::Commit(column(all, |p| placed.contains(&p.order.id))))
}

#[derive(Clone)]
struct Reserved {
    key: [u8; 32],
    entry: Uuid,
    expires_at: OffsetDateTime,
    view: OrderView,
    body: Vec<u8>,
    location: String,
}

async fn write_reserved(
    connection: &mut PgConnection,
    all: &[Arc<Reserved>],
) -> Result<Step<Vec<bool>>, sqlx::Error> {
    let moved = sqlx::query_scalar(TRANSITION)
        .bind(column(all, |r| r.entry))
        .bind(column(all, |_| "order"))
        .bind(column(all, |r| r.view.id))
        .bind(column(all, |_| 2_i64))
        .bind(column(all, |_| "reserving"))
        .bind(column(all, |_| "reserved"))
        .bind(column(all, |r| &*r.view.correlation_id))
        .bind(column(all, |_| None::<&str>))
        .bind(column(all, |r| r.key.as_slice()))
        .bind(column(all, |_| b"{}".as_slice()))
        .bind(column(all, |_| NO_HASH.as_slice()))
        .bind(column(all, |r| r.view.id))
        .bind(column(all, |_| "place"))
        .bind(column(all, |_| 201_i16))
        .bind(column(all, |_| "application/json"))
        .bind(column(all, |r| Some(r.location.as_str())))
        .bind(column(all, |r| r.body.as_slice()))
        .bind(column(all, |r| r.view.id))
        .bind(column(all, |_| 1_i64))
        .bind(column(all, |_| 1_i64))
        .bind(column(all, |_| "reserved"))
        .bind(column(all, |_| 2_i64))
        .bind(column(all, |_| NO_HASH.as_slice()))
        .bind(column(all, |r| r.entry))
        .bind(column(all, |r| r.expires_at))
        .bind(column(all, |r| r.view.updated_at))
        .bind(column(all, |_| 1_i64))
        .bind(column(all, |_| None::<&str>))
        .bind(column(all, |_| 0_i32))
        .bind(column(all, |_| None::<i64>))
        .bind(column(all, |_| "0000000000000000"))
        .bind(column(all, |r| &*r.view.correlation_id))
        .bind(column(all, |_| 0_i32))
        .fetch_all(connection)
        .await?;
    Ok(Step::Commit(column(all, |r| moved.contains(&r.view.id))))
}
