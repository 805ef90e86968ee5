//! The mapping from the result of a use case to the HTTP reply.

use axum::response::{IntoResponse, Response};
use chassis::ApiError;
use http::{HeaderValue, StatusCode, header};
use journal::State;
use mainstay::Problem;
use mainstay::problem::Effect;

use crate::app::{CommandError, CommandResult, OrderView, stored_replies};
use crate::domain::Status;

/// `Retry-After` of a 202, in seconds. The reconciler sweeps several times in a second.
const RETRY_AFTER: u64 = 1;

/// The reply to a command.
pub(super) fn result(result: CommandResult) -> Response {
    match result {
        CommandResult::Final(reply) => chassis::stored::reply(reply, false),
        CommandResult::Replayed(reply) => chassis::stored::reply(reply, true),
        CommandResult::Pending(order) => accepted(&order),
    }
}

/// 202 with the order's present state, `Location` and `Retry-After`.
pub(super) fn accepted(order: &OrderView) -> Response {
    let location = HeaderValue::try_from(stored_replies::location(order.id));
    let location = location.expect("a path with a UUID is header-safe");
    let headers = [(header::LOCATION, location), (header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER))];
    (StatusCode::ACCEPTED, headers, axum::Json(order)).into_response()
}

/// The problem for a command without a result.
pub(super) fn refused(error: CommandError) -> ApiError {
    match error {
        CommandError::NotFound => ApiError::not_found("there is no such order"),
        CommandError::KeyReused => chassis::stored::key_reused(),
        CommandError::InFlight => chassis::stored::in_flight(),
        CommandError::NotYet { from, to } => {
            stored_replies::illegal(from, to).outcome(Effect::NotExecuted).retry_after(RETRY_AFTER).into()
        }
        CommandError::UnknownStatus { from, to } => unknown_status(&from, to),
        CommandError::Database(error) => chassis::stored::database(&error),
        CommandError::KeyUnreadable(error) => chassis::stored::unknown(&error),
    }
}

/// 409 for an order in a status that this release does not know. The release does not know the following statuses either.
fn unknown_status(from: &str, to: Status) -> ApiError {
    Problem::new(StatusCode::CONFLICT, "illegal-transition", "The order's state does not allow this")
        .detail("this release of the service does not know the order's status; a newer one may")
        .member("from", from)
        .member("to", to.as_str())
        .member("allowed", Vec::<String>::new())
        .outcome(Effect::NotExecuted)
        .retry_after(RETRY_AFTER)
        .into()
}

/// 504 for a deadline that passed before the commit of the intent was known.
pub(super) fn too_late() -> ApiError {
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "deadline-exceeded", "The deadline passed")
        .detail(
            "it is not known whether the request was carried out; repeat it with the same idempotency key",
        )
        .outcome(Effect::Unknown)
        .retry_after(RETRY_AFTER)
        .into()
}

#[cfg(test)]
mod tests {
    use journal::DatabaseError;

    use super::*;

    #[test]
    fn a_taken_key_that_cannot_be_read_is_an_unknown_outcome() {
        let busy = || DatabaseError::Busy(sqlx::Error::PoolTimedOut.into());
        let outcome = |error| refused(error).problem().outcome;
        assert_eq!(outcome(CommandError::KeyUnreadable(busy())), Some(Effect::Unknown));
        assert_eq!(outcome(CommandError::Database(busy())), Some(Effect::NotExecuted));
    }
}
