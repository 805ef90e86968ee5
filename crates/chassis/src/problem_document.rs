//! The shape of a problem document, for the API's description.

use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// RFC 9457 problem document. Further members go with some types: `order_id`, `short_lines`, `skus`, `from`, `to`,
/// `allowed`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemDocument {
    /// `urn:mainstay:problem:` and a stable name.
    #[serde(rename = "type")]
    #[schema(example = "urn:mainstay:problem:insufficient-stock")]
    kind: String,
    /// Title, the same for every occurrence.
    title: String,
    /// HTTP status.
    status: u16,
    /// Description of this occurrence and of the way to avoid it.
    detail: Option<String>,
    /// True if the same request may succeed later.
    retryable: bool,
    /// True if a repeat should have the same idempotency key.
    same_key: bool,
    /// `not-executed`, `refused` or `unknown`.
    outcome: Option<String>,
    /// Correlation id of the request.
    correlation_id: Option<String>,
    /// The invalid fields.
    errors: Option<Vec<InvalidField>>,
}

/// An invalid field.
#[derive(Debug, Serialize, ToSchema)]
struct InvalidField {
    /// Path in the body, or name of a header or parameter.
    field: String,
    /// Description of the fault and of a valid value.
    detail: String,
}

/// Problems that every command can give, for the descriptions of their routes.
#[derive(Debug, IntoResponses)]
pub enum CommandProblems {
    /// malformed-json, malformed-parameter, idempotency-key-missing, idempotency-key-invalid
    #[response(status = 400)]
    Malformed(ProblemDocument),
    /// unauthenticated
    #[response(status = 401)]
    Unauthenticated(ProblemDocument),
    /// forbidden
    #[response(status = 403)]
    Forbidden(ProblemDocument),
    /// request-timeout: the body took too long
    #[response(status = 408)]
    Slow(ProblemDocument),
    /// payload-too-large
    #[response(status = 413)]
    TooLarge(ProblemDocument),
    /// unsupported-media-type
    #[response(status = 415)]
    MediaType(ProblemDocument),
    /// rate-limited
    #[response(status = 429)]
    RateLimited(ProblemDocument),
    /// overloaded, unavailable, shutting-down
    #[response(status = 503)]
    Unavailable(ProblemDocument),
    /// deadline-exceeded
    #[response(status = 504)]
    DeadlineExceeded(ProblemDocument),
}

/// Problems that every read can give, for the descriptions of their routes.
#[derive(Debug, IntoResponses)]
pub enum ReadProblems {
    /// malformed-parameter
    #[response(status = 400)]
    Malformed(ProblemDocument),
    /// unauthenticated
    #[response(status = 401)]
    Unauthenticated(ProblemDocument),
    /// forbidden
    #[response(status = 403)]
    Forbidden(ProblemDocument),
    /// rate-limited
    #[response(status = 429)]
    RateLimited(ProblemDocument),
    /// internal
    #[response(status = 500)]
    Internal(ProblemDocument),
    /// overloaded, unavailable, shutting-down
    #[response(status = 503)]
    Unavailable(ProblemDocument),
    /// deadline-exceeded
    #[response(status = 504)]
    DeadlineExceeded(ProblemDocument),
}
