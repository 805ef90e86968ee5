//! Fingerprints: equal for a repeated request, different for any other.

use sha2::{Digest, Sha256};

/// Hashes the parts of a request. Each part is hashed with its length in front, so that no part can run into the next.
///
/// ```
/// use idempotency::FingerprintHasher;
///
/// let one = FingerprintHasher::new("shop.v1").part("POST /payments").part(r#"{"cents":990}"#).finish();
/// let other = FingerprintHasher::new("shop.v1").part("POST /payments{").part(r#""cents":990}"#).finish();
/// assert_ne!(one, other);
/// ```
#[derive(Debug, Clone)]
pub struct FingerprintHasher(Sha256);

impl FingerprintHasher {
    /// Begins with the version of the rule by which a service takes its parts. A fingerprint of another version matches
    /// no request.
    pub fn new(version: &str) -> Self {
        Self(Sha256::new()).part(version)
    }

    /// Adds a part.
    #[must_use]
    pub fn part(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    /// Adds pairs of name and value, with their number in front.
    #[must_use]
    pub fn pairs<T: AsRef<str>>(mut self, pairs: &[(T, T)]) -> Self {
        self.0.update((pairs.len() as u64).to_be_bytes());
        pairs.iter().fold(self, |hasher, (name, value)| hasher.part(name.as_ref()).part(value.as_ref()))
    }

    /// The fingerprint.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
