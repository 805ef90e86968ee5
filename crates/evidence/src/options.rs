//! Settings of a store.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`Store`](crate::Store).
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the store. It belongs to one process at a time.
    pub dir: PathBuf,
    /// Most bytes on disk, all tiers together. Default 512 MiB: an hour of all events at 100 orders a second, and the
    /// sealed ones of some days.
    pub budget: u64,
    /// Size at which a segment ends. Default 16 MiB, and at most an eighth of the budget, so that expiry has a choice.
    pub segment_bytes: u64,
    /// Age at which a segment ends. Default 5 minutes.
    pub segment_age: Duration,
    /// One of so many good events is kept in the sealed tier. Default 10.
    pub one_in: u64,
    /// Age at which all events of a segment leave the hot tier. Default 1 day.
    pub hot_age: Duration,
    /// Age at which a sealed segment expires. Default 7 days: events name customers, so they do not stay for ever.
    pub sealed_age: Duration,
}

/// The smallest budget: eight segments of 64 KiB.
pub const SMALLEST_BUDGET: u64 = 512 * 1024;

impl Options {
    /// The default settings for a folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            budget: 512 * 1024 * 1024,
            segment_bytes: 16 * 1024 * 1024,
            segment_age: Duration::from_mins(5),
            one_in: 10,
            hot_age: Duration::from_hours(24),
            sealed_age: Duration::from_hours(7 * 24),
        }
    }

    pub(crate) fn segment_limit(&self) -> u64 {
        self.segment_bytes.min(self.budget / 8).max(1)
    }
}

/// Reads a number of bytes with an optional unit: `512MiB`, `2GiB`, `1048576`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim() {
        "" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "GiB" => 1024 * 1024 * 1024,
        _ => return Err("must be a number of bytes, KiB, MiB or GiB, such as 512MiB".to_owned()),
    };
    let number: u64 = text[..digits].parse().map_err(|_| "must begin with a whole number".to_owned())?;
    let bytes = number.checked_mul(unit).ok_or("is too large")?;
    if bytes < SMALLEST_BUDGET {
        return Err("must be 512KiB or more".to_owned());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit_or_none_and_a_smallest_value() {
        assert_eq!(parse_bytes("512MiB"), Ok(512 << 20));
        assert_eq!(parse_bytes("2 GiB"), Ok(2 << 30));
        assert_eq!(parse_bytes("1048576"), Ok(1 << 20));
        for wrong in ["", "MiB", "5 MB", "-1", "100KiB", "99999999999999999999", "99999999999GiB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong:?}");
        }
    }
}
