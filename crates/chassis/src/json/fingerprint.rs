//! Fingerprints of requests: 32 bytes that are equal for a repeat and different for another request.

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use http::request::Parts;
use idempotency::FingerprintHasher;

use crate::ApiError;

/// SHA-256 over a version tag, method, route, path parameters, sorted query and the body as its type writes it. White space
/// and the order of members and of query parameters make no difference; header fields and the way a path was escaped do
/// not either.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({})", crate::hex::encode(&self.0))
    }
}

/// Version of the rule above. Stored fingerprints of another version match no request.
const VERSION: &str = "mainstay.fingerprint.v1";

pub(super) async fn of<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    body: &str,
) -> Result<Fingerprint, ApiError> {
    let route = MatchedPath::from_request_parts(parts, state).await.map_err(ApiError::internal)?;
    let params = RawPathParams::from_request_parts(parts, state).await.map_err(ApiError::internal)?;
    let query = parts.uri.query().unwrap_or_default();
    let mut query: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    query.sort();

    let hasher = FingerprintHasher::new(VERSION)
        .part(parts.method.as_str())
        .part(route.as_str())
        .pairs(&params.iter().collect::<Vec<_>>())
        .pairs(&query)
        .part(body);
    Ok(Fingerprint(hasher.finish()))
}
