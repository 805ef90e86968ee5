//! The target of a call, host and port: the key of circuit breakers and the name in errors and events.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use http::Uri;
use http::uri::Authority;

/// Maximum number of endpoint names that are kept for the life of the process.
const INTERNED: usize = 256;

/// A host with its port, without credentials. Cloning it increments a reference count.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(Authority);

impl Endpoint {
    /// The endpoint of `uri`; `None` when it has no host (a path only). Credentials in the URI are left out, so that
    /// they cannot reach a log.
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

    /// `host:port` for a record that outlives this value. The first [`INTERNED`] endpoints of a process get a name
    /// that is never freed and costs nothing to copy. Later ones get an owned copy, so that a process whose endpoints
    /// change does not grow.
    pub(crate) fn name(&self) -> Cow<'static, str> {
        static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(self.as_str()) {
            return Cow::Borrowed(name);
        }
        let name = self.as_str().to_owned();
        if names.len() >= INTERNED {
            return Cow::Owned(name);
        }
        let name: &'static str = name.leak();
        names.insert(name);
        Cow::Borrowed(name)
    }

    /// Whether `uri` goes to this endpoint. It builds no second endpoint.
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

    #[test]
    fn names_are_kept_up_to_a_bound() {
        let name = |n: usize| Endpoint::parse(&format!("interned-{n}:80")).unwrap().name();
        for n in 0..2 * INTERNED {
            assert_eq!(name(n), format!("interned-{n}:80"));
        }
        assert!(matches!(name(2 * INTERNED - 1), Cow::Owned(_)));
    }
}
