//! Law 15 for the server side: counted allocations of a request. The tests are a binary of their own, because the
//! counter is a global allocator.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::future::{Ready, ready};

use allocation_counter::measure;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use mainstay::context::Priority;
use mainstay::limit::{Bounds, Fixed, Gradient, Limiter, QueueConfig, RateLimiter};
use mainstay::server::body_limit::LimitedBody;
use mainstay::server::read_body::ReceivedBody;
use mainstay::server::{LimitConfig, ServerConfig, stack};
use tower::{Layer as _, Service as _};

fn handler(
    _: Request<ReceivedBody<LimitedBody<Full<Bytes>>>>,
) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
    ready(Ok(Response::new(Full::new(Bytes::from_static(b"ok")))))
}

fn request() -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    let headers = request.headers_mut();
    headers.insert("x-correlation-id", HeaderValue::from_static("01a1fdec-76d4-7238-99cc-35a178b0e676"));
    headers.insert(
        "traceparent",
        HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    );
    request
}

#[tokio::test]
async fn law_15_the_limiters_allocate_nothing_on_the_success_path() {
    let limiters = [
        Limiter::new(Fixed::new(4), QueueConfig::default()),
        Limiter::new(Gradient::new(Bounds::default()), QueueConfig::default()),
    ];
    for limiter in limiters {
        let allocated = measure(|| {
            for _ in 0..10_000 {
                let permit = limiter.try_acquire(Priority::Default).unwrap();
                permit.observe(mainstay::limit::Verdict::Answered);
            }
        });
        assert_eq!(allocated.count_total, 0, "{limiter:?}");
    }
    let quota = RateLimiter::new(1_000_000.try_into().unwrap(), std::time::Duration::from_secs(1), 100);
    quota.check("known").unwrap();
    let allocated = measure(|| (0..1_000).for_each(|_| assert!(quota.check("known").is_ok())));
    assert_eq!(allocated.count_total, 0);
}

/// Ten: the extensions' map and its table; the context in it and its decision trail; the handle of the log fields and
/// the fields; the correlation id's text and its shared pointer; the reply's header map and its entries. A log
/// subscriber and a route label that is not a literal add to this. In a workspace whose crates enable more features
/// of the dependencies, it was thirteen.
#[tokio::test]
async fn law_15_a_request_through_the_whole_stack_allocates_a_stated_number_of_times() {
    for limit in [LimitConfig::Fixed(4), LimitConfig::Gradient(Bounds::default())] {
        let mut service =
            stack(ServerConfig::default().limit(limit)).unwrap().layer(tower::service_fn(handler));
        let mut send = |request| drop(service.call(request).now_or_never().unwrap());
        send(request());
        let requests: Vec<_> = (0..1_000).map(|_| request()).collect();
        let allocated = measure(|| requests.into_iter().for_each(&mut send));
        assert!((1_000 * 10..=1_000 * 13).contains(&allocated.count_total), "{allocated:?}");
        assert!(allocated.bytes_current <= 0, "{allocated:?}");
    }
}

/// A refusal allocates about twice as often as a success, for the problem document, and leaves nothing allocated.
#[tokio::test]
async fn law_15_a_refusal_allocates_a_stated_number_of_times() {
    let queue = QueueConfig::default().capacity(Some(0));
    let settings = ServerConfig::default().limit(LimitConfig::Fixed(1)).queue(queue);
    let mut service = stack(settings).unwrap().layer(tower::service_fn(handler));
    let held = service.call(request()).now_or_never().unwrap();
    let mut send = |request| drop(service.call(request).now_or_never().unwrap());
    send(request());
    let requests: Vec<_> = (0..1_000).map(|_| request()).collect();
    let allocated = measure(|| requests.into_iter().for_each(&mut send));
    assert!(allocated.count_total <= 1_000 * 25, "{allocated:?}");
    assert!(allocated.bytes_current <= 0, "{allocated:?}");
    drop(held);
}
