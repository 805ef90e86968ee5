//! Errors for settings that are out of their range.

use std::fmt;
use std::ops::RangeInclusive;

/// Error: the configuration is not valid. It lists every wrong setting, not only the first. Nothing was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The wrong settings, at least one.
    pub problems: Vec<ConfigProblem>,
}

/// One setting that is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {given}, and must be {range}")]
pub struct ConfigProblem {
    /// Path of the setting: `retry.max_attempts`.
    pub field: &'static str,
    /// The value that was given.
    pub given: String,
    /// The valid range.
    pub range: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// A validation in progress.
#[derive(Debug, Default)]
pub(crate) struct Check(Vec<ConfigProblem>);

impl Check {
    /// Checks that `given` lies in `range`. `words` is the range as text.
    pub(crate) fn within<T: PartialOrd + fmt::Debug>(
        &mut self,
        field: &'static str,
        given: &T,
        range: RangeInclusive<T>,
        words: &'static str,
    ) {
        self.that(range.contains(given), field, given, words);
    }

    /// Adds a problem unless the condition holds. `range` is the valid range as text.
    pub(crate) fn that(
        &mut self,
        holds: bool,
        field: &'static str,
        given: &dyn fmt::Debug,
        range: &'static str,
    ) {
        if !holds {
            self.0.push(ConfigProblem { field, given: format!("{given:?}"), range });
        }
    }

    /// Adds the problems of a nested configuration.
    pub(crate) fn part(&mut self, checked: Result<(), ConfigError>) {
        if let Err(ConfigError { problems }) = checked {
            self.0.extend(problems);
        }
    }

    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        if self.0.is_empty() { Ok(()) } else { Err(ConfigError { problems: self.0 }) }
    }
}

/// Range of a dependency's name, which appears in metrics, events and errors.
pub(crate) const PEER: &str = "1 to 64 characters of A-Za-z0-9._-";
