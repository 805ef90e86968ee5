//! From an error to a problem document, in one place. What happened inside goes to the log; what the caller can
//! use goes into the reply.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mainstay::Problem;
use mainstay::problem::{Effect, FieldError};

/// A refusal or failure on its way out: a problem document and the headers that go with it.
///
/// It becomes a reply without the correlation id, which is known only to the request;
/// [`crate::routes::finish`] adds it.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    problem: Problem,
    headers: HeaderMap,
}

/// Marks a reply that was made from a problem, so that the correlation id can still be written into it.
#[derive(Debug, Clone)]
pub(crate) struct Reported(pub(crate) Box<Problem>);

impl ApiError {
    /// 500: the inside is logged, under the request's correlation id, and the caller learns that the outcome is
    /// unknown. For what went wrong before anything could have been done, use [`Problem`] and say so.
    pub fn internal(inside: impl std::fmt::Display) -> Self {
        tracing::error!(error = %inside, "internal error");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed while handling the request")
            .outcome(Effect::Unknown)
            .detail("it is not known whether the request was carried out; a repeat with the same idempotency key is safe")
            .retry_after(1)
            .into()
    }

    /// 422 `validation-failed`: well-formed, but these fields are wrong.
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
