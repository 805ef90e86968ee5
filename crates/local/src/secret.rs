//! A password or token that `Debug` output does not show.

use std::fmt;

use uuid::Uuid;

#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// 244 random bits from the operating system, as 64 hexadecimal digits.
    pub fn generate() -> Self {
        Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }

    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the code that has to send or store it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_random_and_not_in_debug_output() {
        let secret = Secret::generate();
        assert_eq!(secret.expose().len(), 64);
        assert_ne!(secret, Secret::generate());
        assert!(!format!("{secret:?}").contains(secret.expose()));
    }
}
