//! The correlation id: one name for one request in every service, log line and header.

use std::fmt;

use http::HeaderValue;

/// 1 to 64 characters of `A-Za-z0-9._-`. A value is always valid, so it can be written to a log line or a header
/// unchanged: it cannot contain a line break, quote or escape. Cloning it, or making a header of it, increments a
/// reference count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CorrelationId(HeaderValue);

/// Error: the text is not 1 to 64 characters of `A-Za-z0-9._-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a correlation id is 1 to 64 characters of A-Z a-z 0-9 . _ -")]
pub struct InvalidCorrelationId;

impl CorrelationId {
    /// Length of the longest accepted id: enough for a UUID or a trace id with a prefix.
    pub const MAX_LEN: usize = 64;

    /// A new, time-ordered id (UUIDv7).
    pub fn mint() -> Self {
        let mut text = uuid::Uuid::encode_buffer();
        let text = uuid::Uuid::now_v7().hyphenated().encode_lower(&mut text);
        Self(HeaderValue::from_str(text).expect("hex digits and dashes are header-safe"))
    }

    /// Parses an id.
    pub fn parse(text: &str) -> Result<Self, InvalidCorrelationId> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(legal) {
            HeaderValue::from_str(text).map(Self).map_err(|_| InvalidCorrelationId)
        } else {
            Err(InvalidCorrelationId)
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.0.as_bytes()).expect("only A-Za-z0-9._- can be in a CorrelationId")
    }

    /// The id as a header value.
    pub fn to_header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CorrelationId({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_plain_ids_are_accepted() {
        for good in ["a", "order-1", "A.b_c-9", &"x".repeat(64)] {
            assert_eq!(CorrelationId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\nb", "a\u{1b}[31m", "é", "a\"b", &"x".repeat(65)] {
            assert_eq!(CorrelationId::parse(bad), Err(InvalidCorrelationId), "{bad:?}");
        }
    }

    #[test]
    fn a_minted_id_is_acceptable_to_the_next_hop() {
        let id = CorrelationId::mint();
        assert_eq!(CorrelationId::parse(id.as_str()), Ok(id));
    }
}
