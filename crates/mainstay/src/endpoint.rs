//! Where a call goes: host and port, the key of circuit breakers and the name in errors and events.

use std::fmt;

use http::Uri;
use http::uri::Authority;

/// A host with its port, never with credentials. Cloning is a reference count.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(Authority);

impl Endpoint {
    /// The endpoint that `uri` names; `None` when it names none (a path only). Credentials in the URI are left out, so
    /// that they cannot reach a log.
    pub fn of(uri: &Uri) -> Option<Self> {
        let authority = uri.authority()?;
        match authority.as_str().rsplit_once('@') {
            None => Some(Self(authority.clone())),
            Some((_, plain)) => plain.parse().ok().map(Self),
        }
    }

    /// Parses `host:port`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains('@') {
            return None;
        }
        text.parse().ok().map(Self)
    }

    /// `host:port` as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether `uri` goes to this endpoint, without building another one.
    pub fn is_of(&self, uri: &Uri) -> bool {
        uri.authority().is_some_and(|a| a.as_str() == self.0.as_str())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_never_become_part_of_the_name() {
        let uri: Uri = "http://user:secret@db.internal:8081/v1".parse().unwrap();
        let endpoint = Endpoint::of(&uri).unwrap();
        assert_eq!(endpoint.as_str(), "db.internal:8081");
        assert!(!format!("{endpoint:?} {endpoint}").contains("secret"));
        assert_eq!(Endpoint::parse("user:secret@db"), None);
        assert_eq!(Endpoint::of(&"/v1/items".parse().unwrap()), None);
    }
}
