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
    /// The same for every occurrence.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened this time and the way out.
    detail: Option<String>,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// Whether a repeat should carry the same idempotency key.
    same_key: bool,
    /// `not-executed`, `refused` or `unknown`.
    outcome: Option<String>,
    /// Of the request that was refused.
    correlation_id: Option<String>,
    /// Which fields were wrong.
    errors: Option<Vec<WrongField>>,
}

/// One wrong field.
#[derive(Debug, Serialize, ToSchema)]
struct WrongField {
    /// A path into the body, or a header's or parameter's name.
    field: String,
    /// What is wrong and what would be right.
    detail: String,
}
