//! A setting that is out of its range.

/// A setting is out of its range; nothing was built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {range}")]
pub struct ConfigError {
    /// Which setting, as a path: `retry.max_attempts`.
    pub field: &'static str,
    /// What would be right.
    pub range: &'static str,
}

pub(crate) fn check(holds: bool, field: &'static str, range: &'static str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { field, range }) }
}
