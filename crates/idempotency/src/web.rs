//! The header as an extractor of axum, and stored replies as its responses.

use std::borrow::Cow;

use axum_core::body::Body;
use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{IdempotencyKey, InvalidKey, StoredReply};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Header field of a replayed reply, with the value `true`.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

impl IdempotencyKey {
    /// Reads the key of a request.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, InvalidKey> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        match (values.next(), values.next()) {
            (None, _) => Err(InvalidKey::Missing),
            (Some(_), Some(_)) => Err(InvalidKey::Repeated),
            (Some(value), None) => Self::parse(value.as_bytes()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = InvalidKey;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, InvalidKey> {
        Self::from_headers(&parts.headers)
    }
}

impl IntoResponse for InvalidKey {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, format!("Idempotency-Key {self}")).into_response()
    }
}

impl StoredReply {
    /// The response for a repeat: the same bytes, marked with [`IDEMPOTENT_REPLAYED`].
    pub fn into_replay(self) -> Response {
        let mut response = self.into_response();
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

/// The stored bytes. A stored status that HTTP does not have becomes 500.
impl IntoResponse for StoredReply {
    fn into_response(self) -> Response {
        let Self { status, content_type, location, body } = self;
        let Ok(status) = StatusCode::from_u16(status) else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let content_type = match content_type {
            Cow::Borrowed(known) => Ok(HeaderValue::from_static(known)),
            Cow::Owned(read) => HeaderValue::try_from(read),
        };
        if let Ok(content_type) = content_type {
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        }
        if let Some(Ok(location)) = location.map(HeaderValue::try_from) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}
