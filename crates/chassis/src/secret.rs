//! A value that must not be seen: not in a log, a span, an error or a panic message.

use std::fmt;

/// Wraps a secret. `Debug` prints nothing of it, `Display` and serde are not implemented, and the one way to the
/// value is [`Secret::expose`], which is easy to search for.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T = String>(T);

impl<T> Secret<T> {
    /// Wraps it.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the call that needs it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

/// A command line's value parser needs this; whatever the text is, it is accepted.
impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_nothing_of_it() {
        #[derive(Debug)]
        struct Config {
            _url: Secret,
        }
        let config = Config { _url: Secret::new("postgres://u:hunter2@h/d".to_owned()) };
        assert!(!format!("{config:?} {config:#?}").contains("hunter2"));
    }
}
