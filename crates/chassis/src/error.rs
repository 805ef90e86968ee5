//! Errors of handlers as problem documents. The cause goes to the log; the reply holds the part that a caller can use.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mainstay::Problem;
use mainstay::problem::{Effect, FieldError};

/// A refusal or failure: a problem document and further headers.
///
/// The correlation id belongs to the request; [`crate::routes::finish`] adds it to the reply.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    problem: Problem,
    headers: HeaderMap,
}

/// Extension of a reply that was made from a problem, so that the correlation id can be written into it.
#[derive(Debug, Clone)]
pub(crate) struct Reported(pub(crate) Box<Problem>);

impl ApiError {
    /// 500 `internal` with an unknown outcome. The cause is logged under the request's correlation id. If nothing can have
    /// been done, make a [`Problem`] with that outcome instead.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "internal error");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed while handling the request")
            .outcome(Effect::Unknown)
            .detail("it is not known whether the request was carried out; a repeat with the same idempotency key is safe")
            .retry_after(1)
            .into()
    }

    /// 422 `validation-failed` with the invalid fields.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let mut problem =
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "validation-failed", "The request is not valid")
                .outcome(Effect::NotExecuted);
        problem.errors = errors;
        problem.into()
    }

    /// 404 `not-found`.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "There is nothing here")
            .outcome(Effect::Refused)
            .detail(detail)
            .into()
    }

    /// Adds a header to the reply.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// The problem document.
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(Inner { problem, headers: HeaderMap::new() }))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Inner { problem, headers } = *self.0;
        let mut response: Response = problem.clone().into_response();
        response.headers_mut().extend(headers);
        response.extensions_mut().insert(Reported(Box::new(problem)));
        response
    }
}
