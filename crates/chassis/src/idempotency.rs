//! The `Idempotency-Key` header, as an extractor.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use mainstay::Problem;
use mainstay::headers::IDEMPOTENCY_KEY;
use mainstay::problem::Effect;

use crate::ApiError;

/// 16 to 255 printable ASCII characters. Sent bare or as a structured-field string; both name the same key.
///
/// It is long enough that two clients do not use the same key by accident, and short enough for any proxy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key's characters, without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses the value of the header.
    fn parse(value: &[u8]) -> Result<Self, &'static str> {
        let printable = |bytes: &[u8]| bytes.iter().all(|b| (0x20..=0x7e).contains(b));
        if !printable(value) {
            return Err("must be printable ASCII");
        }
        let key = if value.first() == Some(&b'"') { unquote(value)? } else { value.to_vec() };
        if !(16..=255).contains(&key.len()) {
            return Err("must be 16 to 255 characters long");
        }
        String::from_utf8(key).map(Self).map_err(|_| "must be printable ASCII")
    }

    fn from_headers(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        match (values.next(), values.next()) {
            (None, _) => {
                Err(refused("idempotency-key-missing", "is required: a new one for each new command"))
            }
            (Some(_), Some(_)) => Err(refused("idempotency-key-invalid", "is given more than once")),
            (Some(value), None) => {
                Self::parse(value.as_bytes()).map_err(|detail| refused("idempotency-key-invalid", detail))
            }
        }
    }
}

/// A log shows the length of a key and not the key.
impl std::fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdempotencyKey({} characters)", self.0.len())
    }
}

/// RFC 8941 §3.3.3: `"` and `\` are escaped with `\`, and nothing follows the closing quote.
fn unquote(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut key = Vec::with_capacity(value.len());
    let mut rest = value.iter().skip(1);
    loop {
        match rest.next() {
            Some(b'"') if rest.len() == 0 => return Ok(key),
            Some(b'"') => return Err("has something after its closing quote"),
            Some(b'\\') => match rest.next() {
                Some(escaped @ (b'"' | b'\\')) => key.push(*escaped),
                _ => return Err("escapes a character that needs no escape"),
            },
            Some(byte) => key.push(*byte),
            None => return Err("lacks its closing quote"),
        }
    }
}

fn refused(name: &str, detail: &str) -> ApiError {
    Problem::new(StatusCode::BAD_REQUEST, name, "The idempotency key is missing or malformed")
        .outcome(Effect::NotExecuted)
        .field("Idempotency-Key", detail)
        .into()
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::from_headers(&parts.headers)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        IdempotencyKey::from_headers(&headers)
            .map(|key| key.as_str().to_owned())
            .map_err(|error| error.problem().name().to_owned())
    }

    #[test]
    fn bare_and_quoted_forms_name_the_same_key() {
        assert_eq!(read(&["0123456789abcdef"]), Ok("0123456789abcdef".to_owned()));
        assert_eq!(read(&["\"0123456789abcdef\""]), Ok("0123456789abcdef".to_owned()));
        assert_eq!(read(&[r#""0123456789\"\\abcd""#]), Ok(r#"0123456789"\abcd"#.to_owned()));
        assert_eq!(read(&["with spaces, commas; and=more"]), Ok("with spaces, commas; and=more".to_owned()));
    }

    #[test]
    fn the_length_counts_without_quotes_and_escapes() {
        assert!(read(&["\"0123456789abcde\""]).is_err());
        assert!(read(&["0123456789abcde"]).is_err());
        assert!(read(&[&"k".repeat(255)]).is_ok());
        assert!(read(&[&format!("\"{}\"", "k".repeat(255))]).is_ok());
        assert!(read(&[&"k".repeat(256)]).is_err());
    }

    #[test]
    fn what_is_absent_repeated_or_malformed_is_refused_by_name() {
        assert_eq!(read(&[]), Err("idempotency-key-missing".to_owned()));
        let invalid = Err("idempotency-key-invalid".to_owned());
        assert_eq!(read(&["0123456789abcdef", "0123456789abcdef"]), invalid);
        for bad in [
            "",
            "\"",
            "\"0123456789abcdef",
            "\"0123456789abcdef\";a=1",
            r#""0123456789abc\def""#,
            "0123456789abcdé",
        ] {
            assert_eq!(read(&[bad]), invalid, "{bad}");
        }
    }
}
