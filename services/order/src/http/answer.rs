//! The mapping from the result of a use case to the HTTP reply.

use axum::response::{IntoResponse, Response};
use chassis::ApiError;
use http::{HeaderValue, StatusCode, header};
use journal::State;
use mainstay::Problem;
use mainstay::problem::Effect;
use serde::Serialize;

use crate::app::view::{OrderView, ShownOrder};
use crate::app::{Done, Refused, replies};
use crate::domain::Status;
use crate::store::Order;

/// `Retry-After` of a 202, in seconds. The reconciler sweeps several times in a second.
const RETRY_AFTER: u64 = 1;

/// The reply to a command.
pub(super) fn done(done: Done) -> Response {
    match done {
        Done::Final(reply) => chassis::stored::reply(reply, false),
        Done::Replayed(reply) => chassis::stored::reply(reply, true),
        Done::Pending(order) => pending(&order),
        Done::Foreign(order) => accepted(&replies::location(&order), &ShownOrder::from(*order)),
    }
}

/// 202 with the order's present state, `Location` and `Retry-After`.
pub(super) fn pending(order: &Order) -> Response {
    accepted(&replies::location(order), &OrderView::from(order))
}

fn accepted(location: &str, order: &impl Serialize) -> Response {
    let mut response = (StatusCode::ACCEPTED, axum::Json(order)).into_response();
    let headers = response.headers_mut();
    let location = HeaderValue::try_from(location).expect("a path with a UUID is header-safe");
    headers.insert(header::LOCATION, location);
    headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
    response
}

/// The problem for a command without a result.
pub(super) fn refused(refused: Refused) -> ApiError {
    match refused {
        Refused::NotFound => ApiError::not_found("there is no such order"),
        Refused::KeyReused => chassis::stored::key_reused(),
        Refused::InFlight => chassis::stored::in_flight(),
        Refused::NotYet { from, to } => {
            replies::illegal(from, to).outcome(Effect::NotExecuted).retry_after(RETRY_AFTER).into()
        }
        Refused::Foreign { from, to } => foreign(&from, to),
        Refused::Database(error) => chassis::stored::database(&error),
        Refused::Unread(error) => chassis::stored::unknown(&error),
    }
}

/// 409 for an order in a status that this release does not know: the release cannot tell which status may follow.
fn foreign(from: &str, to: Status) -> ApiError {
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
        let outcome = |refusal| refused(refusal).problem().outcome;
        assert_eq!(outcome(Refused::Unread(busy())), Some(Effect::Unknown));
        assert_eq!(outcome(Refused::Database(busy())), Some(Effect::NotExecuted));
    }
}
