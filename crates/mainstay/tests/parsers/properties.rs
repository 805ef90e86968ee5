//! Properties that hold for every header value a client can send. Each function takes any bytes; the fuzz targets in
//! `fuzz/` call the same functions.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use mainstay::context::Priority;
use mainstay::headers::{TRACEPARENT, TRACESTATE, X_ATTEMPT, X_CORRELATION_ID, X_DEADLINE_MS, X_OUTCOME};
use mainstay::server::context::ContextLayer;
use mainstay::{CorrelationId, Deadline, RequestContext, TraceContext, classify};
use tower::{Layer as _, Service as _, service_fn};

/// The header with this value, if a header can hold it.
fn with(name: HeaderName, value: &[u8]) -> Option<HeaderMap> {
    Some(HeaderMap::from_iter([(name, HeaderValue::from_bytes(value).ok()?)]))
}

/// The server's context for a request with these headers.
fn context(headers: HeaderMap) -> RequestContext {
    let mut service = ContextLayer::default().layer(service_fn(|request: Request<()>| async move {
        let context = request.extensions().get::<RequestContext>().cloned();
        Ok::<_, Infallible>(Response::new(context.expect("the layer inserts the context")))
    }));
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    let Ok(reply) = service.call(request).now_or_never().expect("the service is always ready");
    reply.into_body()
}

/// A deadline is only digits, and the deadline that is sent on is not longer.
pub(crate) fn deadline(value: &[u8]) {
    let Some(headers) = with(X_DEADLINE_MS, value) else { return };
    let left = Deadline::left_from_headers(&headers);
    let digits = (1..=10).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    assert_eq!(left.is_some(), digits, "{left:?}");
    if let Some(left) = left {
        let sent = with(X_DEADLINE_MS, Deadline::after(left).to_header_value().as_bytes());
        let sent = sent.and_then(|headers| Deadline::left_from_headers(&headers));
        assert!(sent.is_some_and(|sent| sent <= left), "{sent:?} of {left:?}");
    }
}

/// An attempt is a number from 1 to 9,999; anything else is the first.
pub(crate) fn attempt(value: &[u8]) {
    let Some(headers) = with(X_ATTEMPT, value) else { return };
    let digits = (1..=4).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let number =
        std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).filter(|n| digits && *n > 0);
    assert_eq!(context(headers).attempt, number.unwrap_or(1));
}

/// A trace context can be written, and reads back as the same value.
pub(crate) fn trace(value: &[u8]) {
    let at = value.iter().position(|b| *b == b'\n').unwrap_or(value.len());
    let Some(mut headers) = with(TRACEPARENT, &value[..at]) else { return };
    // The text after the first line is the vendors' part.
    if let Some(state) = value.get(at + 1..).and_then(|rest| HeaderValue::from_bytes(rest).ok()) {
        headers.insert(TRACESTATE, state);
    }
    let Some(read) = TraceContext::from_headers(&headers) else { return };
    assert!(read.trace_id != [0; 16] && read.span_id != [0; 8]);
    assert!(read.state.as_ref().is_none_or(|state| state.len() <= 512));
    let mut written = HeaderMap::new();
    read.write_to(&mut written);
    assert_eq!(TraceContext::from_headers(&written), Some(read));
}

/// A correlation id can be written to a header and a log line unchanged; any other value is replaced.
pub(crate) fn correlation_id(value: &[u8]) {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    let legal = (1..=CorrelationId::MAX_LEN).contains(&value.len()) && value.iter().all(plain);
    let parsed = std::str::from_utf8(value).ok().and_then(|text| CorrelationId::parse(text).ok());
    assert_eq!(parsed.is_some(), legal);
    assert!(parsed.is_none_or(|id| id.as_str().as_bytes() == value && id.to_header_value() == value));
    let Some(headers) = with(X_CORRELATION_ID, value) else { return };
    let id = context(headers).correlation_id;
    assert!(CorrelationId::parse(id.as_str()).is_ok());
    assert_eq!(id.as_str().as_bytes() == value, legal);
}

/// A priority is one of four names.
pub(crate) fn priority(value: &[u8]) {
    let parsed = std::str::from_utf8(value).ok().and_then(Priority::parse);
    assert!(parsed.is_none_or(|priority| priority.as_str().as_bytes() == value));
    assert_eq!(parsed.is_some(), Priority::ALL.iter().any(|p| p.as_str().as_bytes() == value));
}

/// `Retry-After` is at most a day; as a date it needs the reply's `Date`, which follows on a second line.
pub(crate) fn retry_after(value: &[u8]) {
    let at = value.iter().position(|b| *b == b'\n').unwrap_or(value.len());
    let Some(mut headers) = with(header::RETRY_AFTER, &value[..at]) else { return };
    let alone = classify::retry_after(&headers);
    let digits = at > 0 && value[..at].iter().all(u8::is_ascii_digit);
    assert_eq!(alone.is_some(), digits, "without a Date only seconds are accepted");
    if let Some(date) = value.get(at + 1..).and_then(|rest| HeaderValue::from_bytes(rest).ok()) {
        headers.insert(header::DATE, date);
    }
    let asked = classify::retry_after(&headers);
    assert!(asked.is_none_or(|asked| asked <= Duration::from_hours(24)));
    assert!(!digits || asked == alone, "a Date must not change a value in seconds");
}

/// `X-Outcome` is one of three names.
pub(crate) fn outcome(value: &[u8]) {
    let Some(headers) = with(X_OUTCOME, value) else { return };
    let effect = classify::effect(&headers);
    assert!(effect.is_none_or(|effect| effect.as_str().as_bytes() == value));
    assert_eq!(effect.is_some(), [&b"not-executed"[..], b"refused", b"unknown"].contains(&value));
}
