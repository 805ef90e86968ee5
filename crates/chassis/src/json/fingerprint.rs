//! Fingerprints of requests: 32 bytes that are equal for a repeat and different for another request.

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use http::request::Parts;
use sha2::{Digest, Sha256};

use crate::ApiError;

/// SHA-256 over a version tag, method, route, path parameters, sorted query and canonical body. Each part has its length in
/// front, so that two requests cannot have the same bytes. White space, the order of members and of query parameters, header
/// fields and the escapes of a path make no difference.
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
    canonical_body: &str,
) -> Result<Fingerprint, ApiError> {
    let route = MatchedPath::from_request_parts(parts, state).await.map_err(ApiError::internal)?;
    let params = RawPathParams::from_request_parts(parts, state).await.map_err(ApiError::internal)?;
    let query = parts.uri.query().unwrap_or_default();
    let mut query: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    query.sort();

    let mut hash = Framed(Sha256::new());
    hash.part(VERSION);
    hash.part(parts.method.as_str());
    hash.part(route.as_str());
    hash.pairs(&params.iter().collect::<Vec<_>>());
    hash.pairs(&query);
    hash.part(canonical_body);
    Ok(Fingerprint(hash.0.finalize().into()))
}

struct Framed(Sha256);

impl Framed {
    fn part(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn pairs<T: AsRef<str>>(&mut self, pairs: &[(T, T)]) {
        self.0.update((pairs.len() as u64).to_be_bytes());
        for (name, value) in pairs {
            self.part(name.as_ref());
            self.part(value.as_ref());
        }
    }
}
