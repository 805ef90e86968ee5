//! Stored replies.

use std::borrow::Cow;

/// A final reply, as it is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReply {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Cow<'static, str>,
    /// `Location`, if any.
    pub location: Option<String>,
    /// Exact bytes of the body.
    pub body: Vec<u8>,
}

impl StoredReply {
    /// A JSON document.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: "application/json".into(), location: None, body: body.into() }
    }

    /// The status as its column has it.
    pub fn stored_status(&self) -> i16 {
        i16::try_from(self.status).expect("an HTTP status is below 1,000")
    }
}
