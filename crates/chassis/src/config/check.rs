//! Collects settings and every fault in them.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

use sha2::{Digest, Sha256};

use super::{EXIT_CONFIG, setting};
use crate::{Secret, hex};

/// The faults of a configuration, each with the name of its variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigProblems(Vec<(String, String)>);

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "problem" } else { "problems" };
        write!(f, "{} {plural} with the configuration:", self.0.len())?;
        self.0.iter().try_for_each(|(name, detail)| write!(f, "\n  {name}: {detail}"))
    }
}

impl ConfigProblems {
    /// Name of the variable and description of the fault, in the order of reading.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, detail)| (name.as_str(), detail.as_str()))
    }

    /// Writes the faults to standard error and returns the exit code of the process.
    pub fn exit(&self) -> ExitCode {
        eprintln!("{self}");
        ExitCode::from(EXIT_CONFIG)
    }
}

/// A validation in progress. A reader that finds a fault notes it and returns `None`; [`Check::finish`] then fails.
#[derive(Debug, Default)]
pub struct Check {
    problems: Vec<(String, String)>,
    settings: BTreeMap<&'static str, String>,
}

impl Check {
    /// A check that has read nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a setting that must be present. An empty text counts as absent, as in a compose file.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        text: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Some(text) = present(text) else {
            self.problem(name, "is not set");
            return None;
        };
        self.settings.insert(name, text.to_owned());
        self.parsed(name, parse(text))
    }

    /// Reads a setting with a default.
    pub fn or<T>(
        &mut self,
        name: &'static str,
        text: Option<&str>,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.required(name, Some(present(text).unwrap_or(default)), parse)
    }

    /// Reads a setting that may be absent: `Some(None)`.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        text: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match present(text) {
            None => Some(None),
            Some(_) => self.required(name, text, parse).map(Some),
        }
    }

    /// Reads a secret that must be present. The hash leaves it out, and `parse` must not quote it.
    pub fn secret<T>(
        &mut self,
        name: &'static str,
        text: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Secret<T>> {
        let Some(text) = present(text) else {
            self.problem(name, "is not set");
            return None;
        };
        self.parsed(name, parse(text)).map(Secret::new)
    }

    /// Reads a file with one secret on one line. The path is a setting; the content is not.
    pub fn secret_file(&mut self, name: &'static str, path: Option<&str>) -> Option<Secret> {
        self.required(name, path, |path| {
            let text = setting::file(path)?;
            let line = text.trim();
            if line.is_empty() || line.contains(char::is_whitespace) {
                return Err(format!("{path} must hold one line with the secret and nothing else"));
            }
            Ok(Secret::new(line.to_owned()))
        })
    }

    /// Notes a fault that a reader of one setting cannot see.
    pub fn problem(&mut self, name: &str, detail: impl Into<String>) {
        self.problems.push((name.to_owned(), detail.into()));
    }

    /// SHA-256 over the names and values of the settings read so far, as lower-case hex. Secrets are left out. Two
    /// processes with the same configuration have the same hash.
    pub fn settings_hash(&self) -> String {
        let mut hash = Sha256::new();
        for (name, value) in &self.settings {
            for part in [*name, value.as_str()] {
                hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(part);
            }
        }
        hex::encode(&hash.finalize())
    }

    /// The settings that `build` makes, if no fault was noted. `build` returns `None` when a part is missing.
    pub fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, ConfigProblems> {
        if !self.problems.is_empty() {
            return Err(ConfigProblems(self.problems));
        }
        build().ok_or_else(|| ConfigProblems(vec![("configuration".to_owned(), "is incomplete".to_owned())]))
    }

    fn parsed<T>(&mut self, name: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|detail| self.problem(name, detail)).ok()
    }
}

fn present(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_listed_by_name_in_one_message() {
        let mut check = Check::new();
        let a = check.required("LISTEN_ADDR", Some("nowhere"), setting::socket_addr);
        let b = check.required("AUTH_TOKENS_FILE", Some("  "), setting::file);
        let c = check.or("HOLD_SECONDS", Some("86401"), "900", |t| setting::whole(t, 1..=86_400));
        let problems = check.finish(|| Some((a?, b?, c?))).unwrap_err();
        let text = problems.to_string();
        assert!(text.starts_with("3 problems"), "{text}");
        for line in [
            "LISTEN_ADDR: \"nowhere\" is not an address and port",
            "AUTH_TOKENS_FILE: is not set",
            "HOLD_SECONDS: 86401 is not a whole number from 1 to 86400",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn the_hash_follows_settings_and_ignores_secrets() {
        let hash = |hold: &str, url: &str| {
            let mut check = Check::new();
            check.or("HOLD_SECONDS", Some(hold), "900", |t| setting::whole(t, 1..=86_400)).unwrap();
            check.secret("DATABASE_URL", Some(url), |url| Ok(url.to_owned())).unwrap();
            check.settings_hash()
        };
        assert_eq!(hash("900", "one"), hash("900", "two"));
        assert_eq!(hash("", "one"), hash("900", "one"), "a default written out is the same configuration");
        assert_ne!(hash("900", "one"), hash("901", "one"));
        assert_eq!(hash("900", "one").len(), 64);
    }

    #[test]
    fn a_secret_is_not_quoted_when_it_is_refused() {
        let mut check = Check::new();
        assert!(check.secret("DATABASE_URL", Some("mysql://u:hunter2@h/d"), setting::postgres_url).is_none());
        let text = check.finish(|| None::<()>).unwrap_err().to_string();
        assert!(text.contains("DATABASE_URL") && !text.contains("hunter2"), "{text}");
    }
}
