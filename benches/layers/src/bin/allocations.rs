//! Counter of the allocations of each row and of the memory of each breaker.
//!
//! It is a separate binary, because the counter is a global allocator. It prints one line per row: id, allocations per
//! call, bytes per call.

use std::hint::black_box;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Uri};
use http_body_util::Full;
use layer_benches::call::{Boom, Noop, requests};
use layer_benches::{Baseline, Instance, all, ours, peers};
use mainstay::breaker::BreakerConfig;
use tower::{Layer as _, Service, ServiceExt as _};

const CALLS: u32 = 1_000;

/// Allocations and bytes per call: the difference of two runs, so that one-time allocations do not count.
fn each_call(instance: &Instance) -> (f64, f64) {
    instance(100);
    let run = |calls: u32| measure(|| instance(calls as usize));
    let (few, many) = (run(CALLS), run(2 * CALLS));
    let each = |of: fn(&AllocationInfo) -> u64| {
        // The difference is below 2^32, so the conversion is exact.
        let more = u32::try_from(of(&many).saturating_sub(of(&few))).unwrap_or(u32::MAX);
        f64::from(more) / f64::from(CALLS)
    };
    (each(|info| info.count_total), each(|info| info.bytes_total))
}

/// Prints the bytes that each of a hundred breakers keeps after a thousand calls.
fn kept<T>(name: &str, mut make: impl FnMut(usize) -> T, mut call: impl FnMut(&mut T)) {
    const BREAKERS: u16 = 100;
    let mut kept = Vec::with_capacity(usize::from(BREAKERS));
    let info = measure(|| {
        for n in 0..usize::from(BREAKERS) {
            let mut breaker = make(n);
            (0..1_000).for_each(|_| call(&mut breaker));
            kept.push(breaker);
        }
    });
    println!("bytes/{name}\t0\t{}", info.bytes_current / i64::from(BREAKERS));
    drop(black_box(kept));
}

fn once<S>(service: &mut S, request: Request<Full<Bytes>>)
where
    S: Service<Request<Full<Bytes>>>,
{
    let result = service.ready().now_or_never().map(|ready| ready.map(|s| s.call(request).now_or_never()));
    assert!(matches!(result, Some(Ok(Some(Ok(_))))), "the no-op service must answer at once");
}

fn main() {
    for variant in all() {
        let (count, bytes) = each_call(&(variant.make)());
        println!("{}\t{count}\t{bytes}", variant.id());
    }
    let mut request = requests(Baseline::Plain);
    let (service, _breakers) = ours::breaker(BreakerConfig::default());
    // The hundred breakers are endpoints of one dependency, so the figure is the cost of one more endpoint.
    let endpoint =
        |n: usize| Uri::try_from(format!("http://10.0.0.1:{}/", 1_000 + n)).expect("a port below 65,536");
    kept(
        "mainstay/breaker",
        |n| (service.clone(), endpoint(n)),
        |(service, uri)| {
            let mut request = request();
            *request.uri_mut() = uri.clone();
            once(service, request);
        },
    );
    let mut request = requests(Baseline::Plain);
    let noop = Noop::<Boom>::new;
    kept(
        "tower-resilience/breaker, count window",
        |_| peers::count_window().layer(noop()),
        |service| once(service, request()),
    );
    let mut request = requests(Baseline::Plain);
    let minute = std::time::Duration::from_mins(1);
    kept(
        "tower-resilience/breaker, time window of 1,000 calls",
        |_| peers::time_window(minute).layer(noop()),
        |service| once(service, request()),
    );
    kept(
        "failsafe/breaker",
        |_| peers::failsafe(),
        |breaker| {
            use failsafe::futures::CircuitBreaker as _;
            black_box(breaker.call(std::future::ready(Ok::<(), Boom>(()))).now_or_never());
        },
    );
    kept(
        "recloser/breaker",
        |_| peers::recloser(),
        |breaker| {
            black_box(breaker.call(std::future::ready(Ok::<(), Boom>(()))).now_or_never());
        },
    );
}
