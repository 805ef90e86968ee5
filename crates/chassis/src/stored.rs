//! Replies that the journal stores, and the refusals that every command may give, with the same text in both services.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
pub use idempotency::IDEMPOTENT_REPLAYED;
use journal::{DatabaseError, StoredReply};
use mainstay::Problem;
use mainstay::headers::X_OUTCOME;
use mainstay::problem::{Effect, PROBLEM_JSON};

use crate::ApiError;

/// A stored reply, byte for byte. `replayed` is true if it was sent before.
pub fn reply(stored: StoredReply, replayed: bool) -> Response {
    if StatusCode::from_u16(stored.status).is_err() {
        return ApiError::internal(format!("a stored reply has the status {}", stored.status))
            .into_response();
    }
    let mut response = if replayed { stored.into_replay() } else { stored.into_response() };
    let headers = response.headers_mut();
    // Only definite refusals are stored, so a stored problem is one.
    if headers.get(header::CONTENT_TYPE).is_some_and(|content_type| content_type == PROBLEM_JSON) {
        headers.insert(X_OUTCOME, HeaderValue::from_static(Effect::Refused.as_str()));
    }
    response
}

/// 422: the key belongs to another request.
pub fn key_reused() -> ApiError {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "The key was used for another request",
    )
    .outcome(Effect::NotExecuted)
    .field("Idempotency-Key", "belongs to a request with another method, path or body; use a new key")
    .into()
}

/// 409: a request with the same key is in flight.
pub fn in_flight() -> ApiError {
    Problem::new(StatusCode::CONFLICT, "idempotency-in-flight", "A request with this key is being worked on")
        .detail("ask again with the same key for its reply")
        .retry_after(1)
        .into()
}

/// The problem for an error of the database. The cause is logged.
pub fn database(error: &DatabaseError) -> ApiError {
    let busy = |name, title| Problem::new(StatusCode::SERVICE_UNAVAILABLE, name, title).retry_after(1);
    match error {
        DatabaseError::Deadline => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "deadline-exceeded",
            "The deadline passed before it was begun",
        )
        .outcome(Effect::NotExecuted)
        .retry_after(1),
        DatabaseError::Busy(cause) => {
            tracing::warn!(error = %cause, "database too busy");
            busy("overloaded", "There is no room for this now")
                .outcome(Effect::NotExecuted)
                .detail("the database had no room for it in time")
        }
        DatabaseError::Unavailable(cause) => {
            tracing::error!(error = %cause, "database unavailable");
            busy("unavailable", "A part of this service is down")
                .outcome(Effect::NotExecuted)
                .detail(format!("the database {}", error.condition().unwrap_or("is unavailable")))
        }
        DatabaseError::Unknown(_) => return unknown(error),
        DatabaseError::Defect(cause) => return ApiError::internal(cause),
    }
    .into()
}

/// 503 `unavailable` with an unknown outcome: the command may have been carried out under its key.
pub fn unknown(error: &DatabaseError) -> ApiError {
    tracing::error!(%error, "outcome of a database write unknown");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "A part of this service is down")
        .outcome(Effect::Unknown)
        .detail(
            "it is not known whether the request was carried out; repeat it with the same idempotency key",
        )
        .retry_after(1)
        .into()
}
