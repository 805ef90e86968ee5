//! Request bodies.
//!
//! What is not JSON is 415, what is too long is 413, what cannot be parsed, or says one member twice, is 400 and
//! names the place; what parses and has the wrong type, shape or value is 422 and names every field. The
//! fingerprint of what was accepted tells a repeat from a different request under the same idempotency key.

mod extract;
mod fingerprint;

pub use extract::{EmptyBody, MAX_BODY, ValidJson, Validate};
pub use fingerprint::Fingerprint;
