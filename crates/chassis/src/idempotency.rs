//! The `Idempotency-Key` header, as an extractor that refuses with a problem document.

use axum::extract::FromRequestParts;
use http::StatusCode;
use http::request::Parts;
use idempotency::InvalidKey;
use mainstay::Problem;
use mainstay::problem::Effect;

use crate::ApiError;

/// A valid key: see [`idempotency::IdempotencyKey`].
#[derive(Debug, Clone)]
pub struct IdempotencyKey(idempotency::IdempotencyKey);

impl IdempotencyKey {
    /// The key's characters, without quotes.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let key = idempotency::IdempotencyKey::from_headers(&parts.headers);
        key.map(Self).map_err(|invalid| match invalid {
            InvalidKey::Missing => refused("idempotency-key-missing", invalid),
            InvalidKey::Repeated | InvalidKey::Malformed(_) => refused("idempotency-key-invalid", invalid),
        })
    }
}

fn refused(name: &str, invalid: InvalidKey) -> ApiError {
    Problem::new(StatusCode::BAD_REQUEST, name, "The idempotency key is missing or malformed")
        .outcome(Effect::NotExecuted)
        .field("Idempotency-Key", invalid.to_string())
        .into()
}
