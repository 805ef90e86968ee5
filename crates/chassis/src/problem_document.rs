//! The shape of a problem document, for the API's description.

use serde::Serialize;
use utoipa::ToSchema;

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
