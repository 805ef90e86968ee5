//! For any header values of a client, the request gets an identity, a deadline and an answer.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::Full;
use mainstay::headers::{TRACEPARENT, TRACESTATE, X_ATTEMPT, X_CORRELATION_ID, X_DEADLINE_MS, X_PRIORITY};
use mainstay::{CorrelationId, Deadline, RequestContext, TraceContext};
use proptest::prelude::*;
use tower::{Layer as _, ServiceExt as _};

use crate::support::{limited, ok, service};

/// Well-formed values, nearly well-formed values, and any bytes that a header may hold.
fn value(name: &HeaderName) -> BoxedStrategy<HeaderValue> {
    let near = match name.as_str() {
        "x-correlation-id" => "[A-Za-z0-9._ -]{0,70}",
        "x-deadline-ms" => "[+-]?[0-9]{0,12}(\\.[0-9])?",
        "x-attempt" => "[+-]?[0-9]{0,6}",
        "x-priority" => "critical|default|degraded|sheddable|Critical|default | ",
        "traceparent" => "[0-9a-f]{2}-[0-9a-f]{31,33}-[0-9a-fA-F]{16}-[0-9a-f]{2}(-x)?",
        _ => "[a-z]{1,5}=[ -~]{0,600}",
    };
    prop_oneof![
        3 => near.prop_map(|text| HeaderValue::from_str(&text).unwrap()),
        1 => proptest::collection::vec(prop_oneof![Just(b'\t'), 32..127_u8, 128..=255_u8], 0..80)
            .prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap()),
    ]
    .boxed()
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let each =
        [X_CORRELATION_ID, X_DEADLINE_MS, X_ATTEMPT, X_PRIORITY, TRACEPARENT, TRACESTATE].map(|name| {
            proptest::collection::vec(value(&name), 0..3).prop_map(move |values| (name.clone(), values))
        });
    each.prop_map(|all| {
        let pairs =
            all.into_iter().flat_map(|(name, values)| values.into_iter().map(move |v| (name.clone(), v)));
        pairs.fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
    })
}

/// The header's text, if there is exactly one value and it is text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let all: Vec<_> = headers.get_all(name).iter().collect();
    if all.len() == 1 { all[0].to_str().ok() } else { None }
}

proptest! {
    #[test]
    fn any_headers_make_a_valid_context(headers in headers()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (reply, seen) = runtime.block_on(async {
            let (sender, receiver) = std::sync::mpsc::channel();
            let stacked = limited(1, 0).layer(service(move |request| {
                sender.send(request.extensions().get::<RequestContext>().unwrap().clone()).unwrap();
                async { ok() }
            }));
            let mut request = Request::new(Full::default());
            *request.headers_mut() = headers.clone();
            (stacked.oneshot(request).await.unwrap(), receiver.try_recv().ok())
        });

        let asked = single(&headers, &X_DEADLINE_MS)
            .filter(|text| (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()))
            .map(|digits| digits.parse::<u64>().unwrap());
        if asked == Some(0) {
            prop_assert_eq!(reply.status().as_u16(), 504);
            prop_assert!(seen.is_none(), "the handler ran after the deadline");
            return Ok(());
        }
        prop_assert_eq!(reply.status().as_u16(), 200);
        let context = seen.expect("the handler ran");

        let id = reply.headers()[&X_CORRELATION_ID].to_str().unwrap();
        prop_assert_eq!(id, context.correlation_id.as_str());
        prop_assert!(CorrelationId::parse(id).is_ok());
        let given = single(&headers, &X_CORRELATION_ID).and_then(|text| CorrelationId::parse(text).ok());
        prop_assert!(given.is_none_or(|given| given == context.correlation_id));

        let left = Duration::from_millis(asked.unwrap_or(2_000).min(30_000));
        prop_assert!(context.deadline <= Deadline::after(left) && context.deadline.remaining() <= left);

        let attempt = single(&headers, &X_ATTEMPT)
            .filter(|text| (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()))
            .map_or(1, |digits| digits.parse::<u32>().unwrap().max(1));
        prop_assert_eq!(context.attempt, attempt);

        let priority = single(&headers, &X_PRIORITY).unwrap_or_default();
        let known = ["critical", "degraded", "sheddable"].contains(&priority);
        prop_assert_eq!(context.priority.as_str(), if known { priority } else { "default" });

        prop_assert_ne!(context.trace.trace_id, [0; 16]);
        prop_assert_ne!(context.trace.span_id, [0; 8]);
        let mut sent_on = HeaderMap::new();
        context.trace.write_to(&mut sent_on);
        prop_assert!(TraceContext::from_headers(&sent_on).is_some(), "the written trace context is well-formed");
        if let Some(caller) = TraceContext::from_headers(&headers) {
            prop_assert_eq!(caller.trace_id, context.trace.trace_id);
            prop_assert_ne!(caller.span_id, context.trace.span_id);
        }
    }
}
