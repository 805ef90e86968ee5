//! Times as text of a fixed width, so that they compare like the times that they name.

use std::fmt::Write as _;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// RFC 3339 in UTC with six digits of microseconds.
pub(crate) fn stamp(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let mut text = String::with_capacity("2026-11-28T12:00:01.123456Z".len());
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, micro) = at.to_hms_micro();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z",
        u8::from(month)
    );
    text
}

/// The time that a text names, in the form of [`stamp`].
pub(crate) fn parse(text: &str) -> Option<String> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(stamp)
}

/// The time in a text that [`stamp`] made.
pub(crate) fn time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn texts_compare_like_the_times_that_they_name() {
        assert_eq!(stamp(datetime!(2026-11-28 12:00:01.123_456_789 UTC)), "2026-11-28T12:00:01.123456Z");
        assert_eq!(parse("2026-11-28T14:00:01+02:00").as_deref(), Some("2026-11-28T12:00:01.000000Z"));
        assert!(parse("yesterday").is_none());
        assert!(stamp(datetime!(2026-11-28 9:59 UTC)) < stamp(datetime!(2026-11-28 10:00 UTC)));
    }
}
