//! The key that a client sends, and the hash that is stored.

use std::fmt;

use sha2::{Digest, Sha256};

/// A valid key: 16 to 255 printable ASCII characters.
///
/// The minimum is long enough that two clients do not choose the same key by accident, and the maximum passes every
/// proxy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// Reasons why a request has no usable key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The request has no `Idempotency-Key`.
    #[error("is required: a new one for each new command")]
    Missing,
    /// The request has several.
    #[error("is given more than once")]
    Repeated,
    /// The value is not a key, for this reason.
    #[error("{0}")]
    Malformed(&'static str),
}

impl IdempotencyKey {
    /// The key's characters, without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hash under which the key is stored.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.0)
    }

    /// Reads the value of a header field: bare, or as a structured-field string. Both forms name the same key.
    pub fn parse(value: &[u8]) -> Result<Self, InvalidKey> {
        let printable = |bytes: &[u8]| bytes.iter().all(|b| (0x20..=0x7e).contains(b));
        if !printable(value) {
            return Err(InvalidKey::Malformed("must be printable ASCII"));
        }
        let key = if value.first() == Some(&b'"') { unquote(value)? } else { value.to_vec() };
        if !(16..=255).contains(&key.len()) {
            return Err(InvalidKey::Malformed("must be 16 to 255 characters long"));
        }
        String::from_utf8(key).map(Self).map_err(|_| InvalidKey::Malformed("must be printable ASCII"))
    }
}

/// Shows the length alone: the key belongs to the client and must not reach a log.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey({} characters)", self.0.len())
    }
}

/// Removes the quotes of RFC 8941 §3.3.3: `\` escapes `"` and `\`, and nothing follows the closing quote.
fn unquote(value: &[u8]) -> Result<Vec<u8>, InvalidKey> {
    let mut key = Vec::with_capacity(value.len());
    let mut rest = value.iter().skip(1);
    loop {
        match rest.next() {
            Some(b'"') if rest.len() == 0 => return Ok(key),
            Some(b'"') => return Err(InvalidKey::Malformed("has something after its closing quote")),
            Some(b'\\') => match rest.next() {
                Some(escaped @ (b'"' | b'\\')) => key.push(*escaped),
                _ => return Err(InvalidKey::Malformed("escapes a character that needs no escape")),
            },
            Some(byte) => key.push(*byte),
            None => return Err(InvalidKey::Malformed("lacks its closing quote")),
        }
    }
}

/// SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// A hash that was stored before.
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// Hashes a key.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// The hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(")?;
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<String> {
        IdempotencyKey::parse(value.as_bytes()).ok().map(|key| key.as_str().to_owned())
    }

    #[test]
    fn bare_and_quoted_forms_name_the_same_key() {
        for (value, key) in [
            ("0123456789abcdef", "0123456789abcdef"),
            ("\"0123456789abcdef\"", "0123456789abcdef"),
            (r#""0123456789\"\\abcd""#, r#"0123456789"\abcd"#),
            ("with spaces, commas; and=more", "with spaces, commas; and=more"),
        ] {
            assert_eq!(read(value).as_deref(), Some(key));
        }
    }

    #[test]
    fn the_length_counts_without_quotes_and_escapes() {
        assert_eq!(read("\"0123456789abcde\""), None);
        assert_eq!(read("0123456789abcde"), None);
        assert!(read(&"k".repeat(255)).is_some());
        assert!(read(&format!("\"{}\"", "k".repeat(255))).is_some());
        assert_eq!(read(&"k".repeat(256)), None);
    }

    #[test]
    fn a_malformed_key_is_refused() {
        for bad in [
            "",
            "\"",
            "\"0123456789abcdef",
            "\"0123456789abcdef\";a=1",
            r#""0123456789abc\def""#,
            "0123456789abcd\u{e9}",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
