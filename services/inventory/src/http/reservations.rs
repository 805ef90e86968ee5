//! Reservations: reserve, confirm, release, read. The order service's side of the API.

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
/// The caller chooses the reservation's id, so that it can release what it asked for whatever became of the
/// request. The hold ends by itself after `hold_seconds`.
///
/// Consistency: the reply shows the reservation at its commit, and every read that begins after it shows that or something
/// newer. A replayed reply shows the reservation as it was then.
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
        (status = 500, description = "internal", body = ProblemDocument),
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

/// Ship what a reservation holds
///
/// Consistency: judged by inventory's clock under the lock of the row, whatever an earlier read showed. 200 means that the
/// shipment is committed.
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
        (status = 500, description = "internal", body = ProblemDocument),
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

/// Give a hold back, or make sure that it can never come to be
///
/// Consistency: judged under the lock of the row, whatever an earlier read showed. After 200 the reservation holds nothing, and a
/// reserve that arrives later is refused.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/release", tag = "reservations",
    params(("id" = Uuid, Path, description = "The reservation"), ("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 200, description = "Released, or voided when it was never seen; what had ended before is as it was", body = Reservation),
        (status = 400, description = "Malformed id, key or body", body = ProblemDocument),
        (status = 401, description = "unauthenticated", body = ProblemDocument),
        (status = 403, description = "forbidden", body = ProblemDocument),
        (status = 408, description = "request-timeout: the body took too long", body = ProblemDocument),
        (status = 409, description = "illegal-transition once confirmed", body = ProblemDocument),
        (status = 413, description = "payload-too-large", body = ProblemDocument),
        (status = 415, description = "unsupported-media-type", body = ProblemDocument),
        (status = 422, description = "validation-failed, idempotency-key-reused", body = ProblemDocument),
        (status = 429, description = "rate-limited", body = ProblemDocument),
        (status = 500, description = "internal", body = ProblemDocument),
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

/// Read a reservation as it stands
///
/// Consistency: read your writes, and monotonic. `held` can be shown for about half a second after `expires_at`; a confirm in
/// that time is refused.
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
    let entry_id = HeaderValue::try_from(found.newest.entry_id.to_string()).expect("a UUID is header-safe");
    api.inventory.clocks().adopt_head(found.newest.hlc);
    let headers = [(X_ENTRY_ID, entry_id), (X_HYBRID_CLOCK, answer::clock_header(&api))];
    Ok((headers, Json(reply::reservation_body(&found))).into_response())
}
