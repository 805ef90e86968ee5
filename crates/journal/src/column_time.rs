//! Reader of `timestamptz` columns for every value that a column can hold.
//!
//! sqlx adds the column's microseconds to its epoch and panics if the sum is out of range, as it is for `infinity`. One such row
//! would end the task that reads it, and with it the work on all other rows.

use sqlx::Row;
use sqlx::postgres::PgRow;
use time::{Duration, OffsetDateTime, macros::datetime};

/// Time from which PostgreSQL counts.
const EPOCH: OffsetDateTime = datetime!(2000-01-01 0:00 UTC);

/// The `timestamptz` column `name` of `row`, read in the binary format, which every prepared statement uses.
///
/// # Errors
/// A time outside the years 0 to 9999, which has no RFC 3339 form: a fault of this row alone.
pub fn time_at(row: &PgRow, name: &str) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    let micros: Option<i64> = row.try_get_unchecked(name)?;
    let Some(micros) = micros else { return Ok(None) };
    match from_micros(micros) {
        Some(time) => Ok(Some(time)),
        None => Err(sqlx::Error::Decode(format!("{name} is outside the years 0 to 9999").into())),
    }
}

fn from_micros(micros: i64) -> Option<OffsetDateTime> {
    EPOCH.checked_add(Duration::microseconds(micros)).filter(|time| (0..=9999).contains(&time.year()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_outside_of_the_years_0_to_9999_is_refused_without_a_panic() {
        assert_eq!(from_micros(0), Some(EPOCH));
        assert_eq!(from_micros(-1).map(OffsetDateTime::year), Some(1999));
        for never in [i64::MAX, i64::MIN, 252_455_616_000_000_000] {
            assert_eq!(from_micros(never), None);
        }
    }
}
