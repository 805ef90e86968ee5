//! Writes events to a folder until standard input ends, then reports how many were written and how many were dropped.
//! The second argument is the size of a segment in KiB. The tests kill this process, and fill its disk.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use evidence::{Event, Options, Origin, Recorder, RequestEvent, names};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder as Meter, SharedString, Unit,
};

#[derive(Debug, Default)]
struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Counts events written and dropped.
#[derive(Debug, Clone, Default)]
struct Counts {
    written: Arc<Count>,
    dropped: Arc<Count>,
}

impl Meter for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            names::EVENTS => Counter::from_arc(Arc::clone(&self.written)),
            names::DROPPED => Counter::from_arc(Arc::clone(&self.dropped)),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("the first argument is a folder");
    let kib: u64 =
        arguments.next().and_then(|text| text.parse().ok()).expect("the second argument is a size in KiB");
    let counts = Counts::default();
    metrics::set_global_recorder(counts.clone()).expect("no recorder was set before");
    let text = |value: &str| value.to_owned();
    let origin = Origin {
        service: text("order"),
        version: text("0.1.0"),
        revision: text("unknown"),
        instance: text("1"),
        environment: text("test"),
        region: None,
        config_hash: text("0"),
    };
    let options = Options { segment_bytes: kib * 1024, ..Options::new(dir) };
    let (recorder, writing, _) = Recorder::start(options, &origin).expect("the store opens");
    let is_ending = Arc::new(AtomicBool::new(false));
    let ending = Arc::clone(&is_ending);
    std::thread::spawn(move || {
        // An error ends the input too.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ending.store(true, Ordering::Relaxed);
    });
    let mut recorded: u64 = 0;
    while !is_ending.load(Ordering::Relaxed) {
        for _ in 0..20 {
            recorded += 1;
            let order = recorded.to_string();
            let event = RequestEvent {
                route: "/v1/orders",
                status: Some(201),
                order_id: Some(&order),
                ..RequestEvent::default()
            };
            recorder.record(&Event::Request(&event));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(writing);
    let of = |count: &Count| count.0.load(Ordering::Relaxed);
    println!("recorded {recorded}\nwritten {}\ndropped {}", of(&counts.written), of(&counts.dropped));
}
