//! Request bodies.
//!
//! A body that is not JSON is 415, one that is too long 413. A body that cannot be parsed, or has a member twice, is 400 with
//! the position. A body with a wrong type, shape or value is 422 with the name of each field. The fingerprint of an accepted
//! body tells a repeat from a different request with the same idempotency key.

mod extract;
mod fingerprint;

pub use extract::{EmptyBody, MAX_BODY, ValidJson, Validate};
pub use fingerprint::Fingerprint;
