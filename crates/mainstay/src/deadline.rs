//! An absolute point in this process's monotonic time by which a request must be answered.
//!
//! Only durations travel between hosts (`X-Deadline-Ms`), so a wrong wall clock on either side cannot shorten or
//! lengthen a request's time.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::headers::X_DEADLINE_MS;

/// The time after which the caller does not want the answer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline `left` from now.
    pub fn after(left: Duration) -> Self {
        let now = Instant::now();
        // A duration too long to add counts as a day.
        Self(now.checked_add(left).unwrap_or(now + Duration::from_hours(24)))
    }

    /// A deadline at `instant`.
    #[inline]
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The instant, for `tokio::time::timeout_at`.
    #[inline]
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Time left; zero after the deadline has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(crate::clock::now())
    }

    /// Whether the deadline has passed.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// The deadline less `reserve`, which this hop needs for its own work after the call.
    #[must_use]
    pub fn less(self, reserve: Duration) -> Self {
        Self(self.0.checked_sub(reserve).unwrap_or(self.0))
    }

    /// The earlier of two deadlines.
    #[must_use]
    #[inline]
    pub fn earliest(self, other: Self) -> Self {
        self.min(other)
    }

    /// Reads `X-Deadline-Ms`. `None` when it is absent, repeated, or not 1 to 10 decimal digits: a malformed deadline
    /// counts as absent. Zero is a deadline that has passed.
    pub fn left_from_headers(headers: &HeaderMap) -> Option<Duration> {
        let mut values = headers.get_all(X_DEADLINE_MS).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let digits = value.as_bytes();
        if digits.is_empty() || digits.len() > 10 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        value.to_str().ok()?.parse().ok().map(Duration::from_millis)
    }

    /// The value for `X-Deadline-Ms`: whole milliseconds left, rounded down, so that the time only shrinks from hop
    /// to hop.
    pub fn to_header_value(self) -> HeaderValue {
        header_value(u64::try_from(self.remaining().as_millis()).unwrap_or(u64::MAX))
    }
}

/// Milliseconds as the value of `X-Deadline-Ms`.
pub(crate) fn header_value(millis: u64) -> HeaderValue {
    let Some(digits) = usize::try_from(millis).ok().and_then(|millis| NUMERALS.get(millis)) else {
        // `HeaderValue::from` would allocate twice.
        return HeaderValue::try_from(millis.to_string()).expect("decimal digits are header-safe");
    };
    let zeros = match millis {
        ..10 => 3,
        10..100 => 2,
        100..1_000 => 1,
        _ => 0,
    };
    HeaderValue::from_maybe_shared(Bytes::from_static(&digits[zeros..]))
        .expect("decimal digits are header-safe")
}

/// The most usual numbers of milliseconds, in four digits each, so that their header needs no allocation.
static NUMERALS: [[u8; 4]; 2_048] = {
    let mut numerals = [*b"0000"; 2_048];
    let mut n = 1;
    while n < numerals.len() {
        numerals[n] = numerals[n - 1];
        let mut digit = 3;
        while numerals[n][digit] == b'9' {
            numerals[n][digit] = b'0';
            digit -= 1;
        }
        numerals[n][digit] += 1;
        n += 1;
    }
    numerals
};

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_out_is_what_remains() {
        let deadline = Deadline::after(Duration::from_millis(1_500));
        tokio::time::advance(Duration::from_micros(400_300)).await;
        assert_eq!(deadline.to_header_value(), "1099");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(deadline.has_passed());
        assert_eq!(deadline.to_header_value(), "0");
        let far = Duration::from_millis(12_345_678_901_234);
        assert_eq!(Deadline::after(far).to_header_value(), "12345678901234");
        for millis in [0, 9, 10, 99, 100, 999, 1_000, 1_999, 2_047, 2_048] {
            let deadline = Deadline::after(Duration::from_millis(millis));
            assert_eq!(deadline.to_header_value(), millis.to_string());
        }
    }

    #[test]
    fn a_malformed_deadline_counts_as_absent() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_DEADLINE_MS, HeaderValue::from_static(value));
            Deadline::left_from_headers(&headers)
        };
        assert_eq!(read("250"), Some(Duration::from_millis(250)));
        assert_eq!(read("0"), Some(Duration::ZERO));
        for bad in ["", "-1", "+5", "1.5", "1e3", " 5", "99999999999", "soon"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        let mut twice = HeaderMap::new();
        twice.append(X_DEADLINE_MS, HeaderValue::from_static("1"));
        twice.append(X_DEADLINE_MS, HeaderValue::from_static("2"));
        assert_eq!(Deadline::left_from_headers(&twice), None);
    }
}
