//! The verdict on an HTTP reply, by its status and its headers.

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode, header};

use super::{HasOutcome, Summary};
use crate::Outcome;
use crate::headers::X_OUTCOME;
use crate::problem::Effect;

/// Classifies a reply. Pure, allocates nothing.
///
/// | reply | verdict |
/// |---|---|
/// | 2xx, 304 | success |
/// | 400 401 403 405 406 411 413 414 415 417 421 426 431, other 3xx | client-fault |
/// | 429; 503 with `not-executed` | throttled |
/// | other 4xx (404 409 410 412 422 …) | refused, unless `X-Outcome` says otherwise |
/// | other status with `not-executed` | failed-known |
/// | any status from 400 with `unknown`; other 5xx; 408 | unknown |
///
/// ```
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use mainstay::{Outcome, classify, headers::X_OUTCOME};
///
/// let mut headers = HeaderMap::new();
/// assert_eq!(classify::reply(StatusCode::SERVICE_UNAVAILABLE, &headers), Outcome::Unknown);
/// headers.insert(X_OUTCOME, HeaderValue::from_static("not-executed"));
/// assert_eq!(classify::reply(StatusCode::SERVICE_UNAVAILABLE, &headers), Outcome::Throttled);
/// ```
pub fn reply(status: StatusCode, headers: &HeaderMap) -> Outcome {
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Outcome::Success;
    }
    let said = effect(headers);
    match (status.as_u16(), said) {
        (..400, _) => Outcome::ClientFault,
        // 408: the peer stopped waiting for the rest of the request, and does not report its effect.
        (_, Some(Effect::Unknown)) | (408 | 500.., None) => Outcome::Unknown,
        (400 | 401 | 403 | 405 | 406 | 411 | 413 | 414 | 415 | 417 | 421 | 426 | 431, _) => {
            Outcome::ClientFault
        }
        (429, _) | (503, Some(Effect::NotExecuted)) => Outcome::Throttled,
        (_, Some(Effect::NotExecuted)) => Outcome::FailedKnown,
        (_, Some(Effect::Refused) | None) => Outcome::Refused,
    }
}

/// The `X-Outcome` header; `None` when it is absent, repeated or not one of the three names.
pub fn effect(headers: &HeaderMap) -> Option<Effect> {
    let mut values = headers.get_all(X_OUTCOME).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    [Effect::NotExecuted, Effect::Refused, Effect::Unknown]
        .into_iter()
        .find(|effect| effect.as_str().as_bytes() == value.as_bytes())
}

/// The `Retry-After` header, at most a day. A date is read as the time between the reply's own `Date` and it, both by
/// the peer's clock, because only durations are trusted across hosts. Without a `Date` it counts as absent.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let asked = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let until = httpdate::parse_http_date(value).ok()?;
        let said_at = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
        // A date in the past asks for no wait.
        until.duration_since(said_at).unwrap_or_default()
    };
    Some(asked.min(Duration::from_hours(24)))
}

impl<B> HasOutcome for Response<B> {
    fn outcome(&self) -> Outcome {
        reply(self.status(), self.headers())
    }

    fn settles_earlier(&self) -> bool {
        !matches!(self.status().as_u16(), 409 | 425) || effect(self.headers()).is_some()
    }

    fn retry_after(&self) -> Option<Duration> {
        retry_after(self.headers())
    }

    fn summary(&self) -> Summary {
        Summary::Status(self.status())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(name: http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    fn read(status: u16, said: Option<&'static str>) -> Outcome {
        let headers = said.map_or_else(HeaderMap::new, |value| with(X_OUTCOME, value));
        reply(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn every_status_has_one_verdict() {
        use Outcome::{ClientFault, FailedKnown, Refused, Success, Throttled, Unknown};
        let table = [
            (200, None, Success),
            (202, Some("unknown"), Success),
            (304, None, Success),
            (302, None, ClientFault),
            (400, None, ClientFault),
            (401, Some("not-executed"), ClientFault),
            (404, None, Refused),
            (409, None, Refused),
            (409, Some("refused"), Refused),
            (409, Some("unknown"), Unknown),
            (409, Some("not-executed"), FailedKnown),
            (408, None, Unknown),
            (422, None, Refused),
            (429, None, Throttled),
            (429, Some("not-executed"), Throttled),
            (500, None, Unknown),
            (500, Some("not-executed"), FailedKnown),
            (500, Some("refused"), Refused),
            (502, None, Unknown),
            (503, None, Unknown),
            (503, Some("not-executed"), Throttled),
            (503, Some("nonsense"), Unknown),
            (504, None, Unknown),
            (504, Some("not-executed"), FailedKnown),
        ];
        for (status, said, verdict) in table {
            assert_eq!(read(status, said), verdict, "{status} {said:?}");
        }
    }

    #[test]
    fn every_status_has_a_verdict_with_and_without_an_effect() {
        for status in 100..1_000 {
            for said in [None, Some("not-executed"), Some("refused"), Some("unknown")] {
                let verdict = read(status, said);
                if status >= 500 && said.is_none() {
                    assert_eq!(
                        verdict,
                        Outcome::Unknown,
                        "{status}: a reply without an effect must stay unknown"
                    );
                }
            }
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let read = |value| retry_after(&with(header::RETRY_AFTER, value));
        assert_eq!(read("3"), Some(Duration::from_secs(3)));
        assert_eq!(read("99999999999999999999"), Some(Duration::from_hours(24)));
        for bad in ["", "-1", "1.5", "soon"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_date_in_retry_after_is_a_duration_by_the_peers_own_clock() {
        const AT: &str = "Sat, 21 Nov 2026 10:00:00 GMT";
        let read = |date: Option<&'static str>| {
            let mut headers = with(header::RETRY_AFTER, AT);
            headers.extend(date.map(|date| (header::DATE, HeaderValue::from_static(date))));
            retry_after(&headers)
        };
        assert_eq!(read(Some("Sat, 21 Nov 2026 09:59:30 GMT")), Some(Duration::from_secs(30)));
        assert_eq!(read(Some("Saturday, 21-Nov-26 09:59:59 GMT")), Some(Duration::from_secs(1)));
        assert_eq!(read(Some("Fri, 20 Nov 2020 00:00:00 GMT")), Some(Duration::from_hours(24)));
        assert_eq!(read(Some("Sat, 21 Nov 2026 10:00:01 GMT")), Some(Duration::ZERO), "a date in the past");
        assert_eq!(read(Some("yesterday")), None);
        assert_eq!(read(None), None, "our own clock may be wrong");
    }
}
