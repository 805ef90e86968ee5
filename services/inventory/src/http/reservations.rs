//! Handlers for reservations: reserve, confirm, release, read. The order service calls them.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chassis::auth::{Services, ServicesAndOperators};
use chassis::problem_document::ProblemDocument;
use chassis::{ApiError, Caller, EmptyBody, ValidJson, ValidPath};
use http::HeaderValue;
use inventory_api::{Reservation, ReserveRequest, X_ENTRY_ID, X_HYBRID_CLOCK};
use journal::entry::hash;
use mainstay::RequestContext;
use uuid::Uuid;

use super::{Api, Command, answer, reply};
use crate::app::{Confirm, Inventory, Refusal, Release, Reserve};

/// Hold stock for an order, all lines or none
///
/// The caller chooses the reservation's id, so that it can release the reservation even when it got no reply. The hold
/// ends by itself after `hold_seconds`.
///
/// Consistency: the reply shows the reservation at its commit. Every read that begins after the reply shows that state or a
/// newer one. A replayed reply shows the reservation as the first reply did.
#[utoipa::path(
    post, path = "/v1/reservations", request_body = ReserveRequest, tag = "reservations",
    params(("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 201, description = "Held until expires_at", body = Reservation),
        (status = 200, description = "Held already, by the same request under another key", body = Reservation),
        (status = 400, description = "malformed-json, idempotency-key-missing, idempotency-key-invalid", body = ProblemDocument),
        (status = 401, description = "unauthenticated", body = ProblemDocument),
        (status = 403, description = "forbidden", body = ProblemDocument),
        (status = 408, description = "request-timeout: the body took too long", body = ProblemDocument),
        (status = 409, description = "insufficient-stock, reservation-voided, illegal-transition", body = ProblemDocument),
        (status = 413, description = "payload-too-large", body = ProblemDocument),
        (status = 415, description = "unsupported-media-type", body = ProblemDocument),
        (status = 422, description = "validation-failed, unknown-sku, idempotency-key-reused", body = ProblemDocument),
        (status = 429, description = "rate-limited", body = ProblemDocument),
        (status = 500, description = "internal, write-refused", body = ProblemDocument),
        (status = 503, description = "overloaded, unavailable, shutting-down", body = ProblemDocument),
        (status = 504, description = "deadline-exceeded", body = ProblemDocument),
    )
)]
pub(super) async fn reserve(
    State(api): State<Api>,
    caller: Caller<Services>,
    command: Command,
    body: ValidJson<Reserve>,
) -> Result<Response, ApiError> {
    let reserve = body.value;
    let payload_hash = hash(body.document.as_bytes());
    command.log.set("order_id", reserve.order_id.to_string());
    command.log.set("reservation_id", reserve.reservation_id.to_string());
    let use_case = |inventory: Inventory, ask| async move { inventory.reserve(ask, reserve).await };
    command.run(&api, caller, body.fingerprint, Some(payload_hash), use_case).await
}

/// Ship the stock that a reservation holds
///
/// Consistency: inventory decides by its own clock under the lock of the row, and not by an earlier read. 200 means that
/// the shipment is committed.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/confirm", tag = "reservations",
    params(("id" = Uuid, Path, description = "The reservation"), ("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 200, description = "Confirmed", body = Reservation),
        (status = 400, description = "Malformed id, key or body", body = ProblemDocument),
        (status = 401, description = "unauthenticated", body = ProblemDocument),
        (status = 403, description = "forbidden", body = ProblemDocument),
        (status = 404, description = "not-found", body = ProblemDocument),
        (status = 408, description = "request-timeout: the body took too long", body = ProblemDocument),
        (status = 409, description = "illegal-transition", body = ProblemDocument),
        (status = 410, description = "reservation-expired", body = ProblemDocument),
        (status = 413, description = "payload-too-large", body = ProblemDocument),
        (status = 415, description = "unsupported-media-type", body = ProblemDocument),
        (status = 422, description = "validation-failed, idempotency-key-reused", body = ProblemDocument),
        (status = 429, description = "rate-limited", body = ProblemDocument),
        (status = 500, description = "internal, write-refused", body = ProblemDocument),
        (status = 503, description = "overloaded, unavailable, shutting-down", body = ProblemDocument),
        (status = 504, description = "deadline-exceeded", body = ProblemDocument),
    )
)]
pub(super) async fn confirm(
    State(api): State<Api>,
    caller: Caller<Services>,
    ValidPath(reservation_id): ValidPath<Uuid>,
    command: Command,
    body: EmptyBody,
) -> Result<Response, ApiError> {
    command.log.set("reservation_id", reservation_id.to_string());
    let confirm = Confirm { reservation_id };
    let use_case = |inventory: Inventory, ask| async move { inventory.confirm(ask, confirm).await };
    command.run(&api, caller, body.fingerprint, None, use_case).await
}

/// Give held stock back, or void a reservation whose reserve has not arrived
///
/// Consistency: inventory decides under the lock of the row, and not by an earlier read. After 200 the reservation holds
/// nothing, and a late reserve is rejected.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/release", tag = "reservations",
    params(("id" = Uuid, Path, description = "The reservation"), ("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 200, description = "Released, or voided when no reserve has arrived; a reservation that had ended keeps its state", body = Reservation),
        (status = 400, description = "Malformed id, key or body", body = ProblemDocument),
        (status = 401, description = "unauthenticated", body = ProblemDocument),
        (status = 403, description = "forbidden", body = ProblemDocument),
        (status = 408, description = "request-timeout: the body took too long", body = ProblemDocument),
        (status = 409, description = "illegal-transition once confirmed", body = ProblemDocument),
        (status = 413, description = "payload-too-large", body = ProblemDocument),
        (status = 415, description = "unsupported-media-type", body = ProblemDocument),
        (status = 422, description = "validation-failed, idempotency-key-reused", body = ProblemDocument),
        (status = 429, description = "rate-limited", body = ProblemDocument),
        (status = 500, description = "internal, write-refused", body = ProblemDocument),
        (status = 503, description = "overloaded, unavailable, shutting-down", body = ProblemDocument),
        (status = 504, description = "deadline-exceeded", body = ProblemDocument),
    )
)]
pub(super) async fn release(
    State(api): State<Api>,
    caller: Caller<Services>,
    ValidPath(reservation_id): ValidPath<Uuid>,
    command: Command,
    body: EmptyBody,
) -> Result<Response, ApiError> {
    command.log.set("reservation_id", reservation_id.to_string());
    let release = Release { reservation_id };
    let use_case = |inventory: Inventory, ask| async move { inventory.release(ask, release).await };
    command.run(&api, caller, body.fingerprint, None, use_case).await
}

/// Read a reservation in its present state
///
/// Consistency: read your writes, and monotonic. `held` can be shown for about half a second after `expires_at`; a confirm
/// in that time is refused.
#[utoipa::path(
    get, path = "/v1/reservations/{id}", tag = "reservations",
    params(("id" = Uuid, Path, description = "The reservation")),
    responses(
        (status = 200, description = "The reservation", body = Reservation),
        (status = 400, description = "malformed-parameter", body = ProblemDocument),
        (status = 401, description = "unauthenticated", body = ProblemDocument),
        (status = 403, description = "forbidden", body = ProblemDocument),
        (status = 404, description = "not-found", body = ProblemDocument),
        (status = 429, description = "rate-limited", body = ProblemDocument),
        (status = 500, description = "internal", body = ProblemDocument),
        (status = 503, description = "overloaded, unavailable, shutting-down", body = ProblemDocument),
        (status = 504, description = "deadline-exceeded", body = ProblemDocument),
    )
)]
pub(super) async fn get(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    _: Caller<ServicesAndOperators>,
    ValidPath(id): ValidPath<Uuid>,
) -> Result<Response, ApiError> {
    let found = api.inventory.reservation(id, context.deadline.instant()).await;
    let Some(found) = found.map_err(|error| chassis::stored::database(&error))? else {
        return Err(reply::problem(&Refusal::NoReservation(id)).into());
    };
    let entry_id = HeaderValue::try_from(found.head.entry_id.to_string()).expect("a UUID is header-safe");
    api.inventory.clocks().adopt_head(found.head.hlc);
    let headers = [(X_ENTRY_ID, entry_id), (X_HYBRID_CLOCK, answer::clock_header(&api))];
    Ok((headers, Json(reply::reservation_body(&found))).into_response())
}
