//! Values that must not appear in a log, a span, an error or a panic message.

use std::fmt;

/// A secret. `Debug` does not print it, `Display` and serde are not implemented, and only [`Secret::expose`] returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T = String>(T);

impl<T> Secret<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the call that needs it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

/// For the value parser of the command line. Every text is accepted.
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
