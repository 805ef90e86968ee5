//! The mapping from the results of use cases to HTTP replies.
//!
//! [`render`] is pure: the transaction that decides a command also stores the bytes of its final reply.

use axum::response::Response;
use chassis::ApiError;
use http::{HeaderValue, StatusCode};
use inventory_api::{Item, Line, Reservation, X_ENTRY_ID, X_HYBRID_CLOCK};
use journal::{DatabaseError, StoredReply};
use mainstay::Problem;
use mainstay::problem::{Effect, PROBLEM_JSON};
use mainstay::server::LogFields;
use serde::Serialize;
use serde_json::json;

use super::Api;
use crate::app::{CommandError, CommandResult};
use crate::domain::{self, Illegal, Outcome, Refusal};

/// `Retry-After` of a refused write, in seconds. An operator has to remove the cause first.
const WRITE_REFUSED_RETRY: u64 = 30;

const JSON: &str = "application/json";

/// The reply to a final outcome, for the request with this correlation id.
pub fn render(outcome: &Outcome, correlation_id: &str) -> StoredReply {
    match outcome {
        Outcome::Held(reservation) => StoredReply {
            location: Some(format!("/v1/reservations/{}", reservation.id)),
            ..document(StatusCode::CREATED, &reservation_body(reservation))
        },
        Outcome::Present(reservation) => document(StatusCode::OK, &reservation_body(reservation)),
        Outcome::Created(item) => StoredReply {
            location: Some(inventory_api::item_path(&item.sku)),
            ..document(StatusCode::CREATED, &item_body(item))
        },
        Outcome::Received(item) => document(StatusCode::CREATED, &item_body(item)),
        Outcome::Refused(refusal) => {
            let mut problem = problem(refusal);
            problem.correlation_id = Some(correlation_id.to_owned());
            StoredReply {
                status: problem.status,
                content_type: PROBLEM_JSON.to_str().unwrap_or(JSON).to_owned().into(),
                location: None,
                body: bytes(&problem),
            }
        }
    }
}

/// An item in the public API.
pub fn item_body(item: &domain::Item) -> Item {
    let domain::Item { sku, name, stock } = item.clone();
    Item { sku, name, on_hand: stock.on_hand, held: stock.held, available: stock.available() }
}

/// A reservation in the public API.
pub fn reservation_body(reservation: &domain::Reservation) -> Reservation {
    Reservation {
        id: reservation.id,
        order_id: reservation.order_id,
        status: reservation.status.into(),
        lines: reservation.lines.iter().map(Line::from).collect(),
        expires_at: reservation.expires_at,
    }
}

/// The problem document of a refusal. A final refusal has no `Retry-After`, because a repeat cannot succeed.
pub fn problem(refusal: &Refusal) -> Problem {
    let refused = |status, name, title| Problem::new(status, name, title).outcome(Effect::Refused);
    match refusal {
        Refusal::InsufficientStock { id, order_id, short_lines } => {
            refused(StatusCode::CONFLICT, "insufficient-stock", "There is not enough in stock")
                .detail("nothing was reserved; `short_lines` says what is missing")
                .member("reservation_id", id.to_string())
                .member("order_id", order_id.to_string())
                .member("short_lines", json!(short_lines))
        }
        Refusal::UnknownSku { id, order_id, skus } => {
            refused(StatusCode::UNPROCESSABLE_ENTITY, "unknown-sku", "There is no such item")
                .detail("nothing was reserved; `skus` says which are unknown")
                .member("reservation_id", id.to_string())
                .member("order_id", order_id.to_string())
                .member("skus", json!(skus))
        }
        Refusal::ReservationVoided { id } => refused(
            StatusCode::CONFLICT,
            "reservation-voided",
            "The reservation was released before it was made",
        )
        .detail("its id cannot be used any more")
        .member("reservation_id", id.to_string()),
        Refusal::ReservationExpired { id, expires_at } => {
            refused(StatusCode::GONE, "reservation-expired", "The reservation's time ran out")
                .detail("its stock was given back")
                .member("reservation_id", id.to_string())
                .member("expires_at", json!(expires_at.map(rfc3339)))
        }
        Refusal::IllegalTransition(illegal) => illegal_transition(illegal),
        Refusal::HeldOtherwise { id } => illegal_transition(&Illegal::between("reservation", "held", "held"))
            .detail("the reservation is held for another order, other lines or another time")
            .member("reservation_id", id.to_string()),
        Refusal::OrderHasAnother { order_id } => {
            illegal_transition(&Illegal::between("reservation", "none", "held"))
                .detail("the order has another reservation that is held or confirmed")
                .member("order_id", order_id.to_string())
        }
        Refusal::SkuExists(sku) => refused(StatusCode::CONFLICT, "sku-exists", "An item has this SKU")
            .detail("a SKU names one item for ever")
            .member("sku", sku.to_string()),
        Refusal::NoReservation(id) => refused(StatusCode::NOT_FOUND, "not-found", "There is nothing here")
            .detail(format!("no reservation has the id {id}")),
        Refusal::NoItem(sku) => refused(StatusCode::NOT_FOUND, "not-found", "There is nothing here")
            .detail(format!("no item has the SKU {sku}")),
    }
}

fn illegal_transition(illegal: &Illegal) -> Problem {
    let problem =
        Problem::new(StatusCode::CONFLICT, "illegal-transition", "The present state does not allow this")
            .outcome(Effect::Refused)
            .detail(illegal.to_string())
            .member("from", illegal.from)
            .member("to", illegal.to)
            .member("allowed", json!(illegal.allowed));
    if illegal.is_terminal() { problem } else { problem.retry_after(1) }
}

fn rfc3339(time: time::OffsetDateTime) -> String {
    time.format(&time::format_description::well_known::Rfc3339)
        .expect("every time the database can hold, years 0 to 9999, has an RFC 3339 form")
}

fn document<T: Serialize>(status: StatusCode, body: &T) -> StoredReply {
    StoredReply { status: status.as_u16(), content_type: JSON.into(), location: None, body: bytes(body) }
}

fn bytes<T: Serialize>(body: &T) -> Vec<u8> {
    serde_json::to_vec(body).expect("replies hold only strings, numbers and lists")
}

/// The header with the service's hybrid time. The order service's clock adopts it.
pub(super) fn clock_header(api: &Api) -> HeaderValue {
    HeaderValue::try_from(api.app.clock().to_string()).expect("hex digits are header-safe")
}

/// The reply to a command that has a final reply.
pub(super) fn done(result: CommandResult, clock: HeaderValue, log: &LogFields) -> Response {
    log.set("idempotent_replayed", result.replayed);
    let mut response = chassis::stored::reply(result.stored, result.replayed);
    let headers = response.headers_mut();
    headers.insert(X_HYBRID_CLOCK, clock);
    if let Some(id) = result.entry_id {
        log.set("entry_id", id.to_string());
        let id = HeaderValue::try_from(id.to_string()).expect("a UUID is header-safe");
        headers.insert(X_ENTRY_ID, id);
    }
    response
}

/// The problem for a command without a final reply.
pub(super) fn refused(error: &CommandError) -> ApiError {
    match error {
        CommandError::KeyReused => chassis::stored::key_reused(),
        CommandError::InFlight => chassis::stored::in_flight(),
        CommandError::NotYet(refusal) => problem(refusal).into(),
        CommandError::WriteRefused(error) => write_refused(error),
        CommandError::NotExecuted(error) | CommandError::Unknown(error) => chassis::stored::database(error),
    }
}

/// 500 `write-refused`, outcome `refused`: the caller's breaker counts an answer, because this service serves other
/// requests, and its retry sends nothing again at once, because the same write would be refused again.
fn write_refused(error: &DatabaseError) -> ApiError {
    tracing::error!(%error, "write refused by the database; nothing was changed");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "write-refused", "The database refused this write")
        .detail(
            "nothing was changed; repeat it with the same key once the cause is removed: the log names it",
        )
        .outcome(Effect::Refused)
        .retry_after(WRITE_REFUSED_RETRY)
        .into()
}

/// 504 for a deadline that passed while the use case was running. The use case goes on.
pub(super) fn too_late() -> ApiError {
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "deadline-exceeded", "The deadline passed")
        .detail(
            "it is not known whether the request was carried out; repeat it with the same idempotency key",
        )
        .outcome(Effect::Unknown)
        .retry_after(1)
        .into()
}
