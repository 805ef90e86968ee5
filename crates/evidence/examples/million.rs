//! Measures a query over a million events: `cargo run --release -p evidence --example million [FOLDER]`.
//!
//! It writes the events of half a million orders with the real event type, in the hot tier and then in the sealed one,
//! and prints sizes, times and peak memory.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use evidence::{Options, Query, Store};
use time::OffsetDateTime;

const EVENTS: u64 = 1_000_000;

fn main() {
    let dir =
        std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("evidence-million"), Into::into);
    let start = OffsetDateTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 50);
    for (name, one_in) in [("all events", 10), ("every event compressed", 1)] {
        // An error means that the folder is not there.
        let _ = std::fs::remove_dir_all(&dir);
        let options = Options { budget: 16 << 30, one_in, ..Options::new(&dir) };
        let (mut store, _) = Store::open(options, start).expect("the folder can be made");
        let began = processor_seconds();
        for number in (0..EVENTS).step_by(1_000) {
            let now = start + Duration::from_millis(number / 2);
            let lines: String = (number..number + 1_000).map(|number| line(number, start)).collect();
            store.append(lines.as_bytes(), now).expect("the disk takes it");
            store.tick(now).expect("the disk takes it");
        }
        let end = start + Duration::from_hours(1);
        store.finish(end).expect("the disk takes it");
        let tiers = store.tiers();
        println!(
            "{name}: hot {} B an event, sealed {} B an event, written in {:.1} s of processor",
            tiers.hot.bytes / EVENTS,
            tiers.sealed.bytes / EVENTS,
            processor_seconds() - began
        );
        ask(&dir, "hot");
        store.tick(end + Duration::from_hours(25)).expect("the disk takes it");
        ask(&dir, "sealed");
    }
    std::fs::remove_dir_all(&dir).expect("the folder can be removed");
    println!("peak memory {} MB", status("VmHWM:") / 1_024);
}

fn ask(dir: &Path, tier: &str) {
    for (conditions, by) in [
        ("outcome=unknown route=/v1/orders", "error.type,peer"),
        ("", "route,outcome"),
        ("duration_ms>300", ""),
    ] {
        let query = Query::parse("", "", conditions, by).expect("the query is valid");
        let began = processor_seconds();
        let summary = if by.is_empty() {
            query.events(dir, |_| ControlFlow::Continue(())).expect("the folder can be read")
        } else {
            query.groups(dir).expect("the folder can be read").1
        };
        println!(
            "  {tier}: where {conditions:?} by {by:?}: {} of {} stored events, weight {}, {:.2} s of processor",
            summary.matched,
            summary.read,
            summary.weight,
            processor_seconds() - began
        );
    }
}

/// A line as the services write it: an order's request, or inventory's.
fn line(number: u64, start: OffsetDateTime) -> String {
    let at = start + Duration::from_micros(500 * number);
    let order = number / 2;
    let (outcome, verdict, status) =
        if number.is_multiple_of(97) { ("unknown", "bad", 202) } else { ("success", "good", 201) };
    let mut line = String::with_capacity(1_024);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, micro) = at.to_hms_micro();
    let _ = writeln!(
        line,
        "{{\"timestamp\":\"{year}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z\",\"service.name\":\"order\",\
         \"service.version\":\"0.1.0\",\"vcs.ref.head.revision\":\"953d59c0b1f2\",\"service.instance.id\":\"019366f2-0000-7000-8000-000000000000\",\
         \"deployment.environment.name\":\"local\",\"config.hash\":\"{:064x}\",\"event\":\"request\",\"verdict\":\"{verdict}\",\
         \"http.request.method\":\"POST\",\"http.route\":\"/v1/orders\",\"http.response.status_code\":{status},\"http.response.body.size\":412,\
         \"outcome\":\"{outcome}\",\"duration_ms\":{}.{:03},\"queue_ms\":0.0,\"pool_ms\":0.1,\"database_ms\":2.314,\"peer_ms\":3.127,\"peer\":\"inventory\",\
         \"peer.outcome\":\"{outcome}\",\"deadline_left_ms\":1993,\"attempt\":1,\"priority\":\"default\",\"principal\":\"client-1\",\"customer_id\":\"{}\",\
         \"order_id\":\"019366f2-{:04x}-7000-8000-{order:012x}\",\"skus.count\":3,\"skus\":[\"85123A\",\"{}\",\"{}\"],\"idempotent_replayed\":false,\
         \"correlation_id\":\"{:032x}\",\"trace_id\":\"{:032x}\",\"span_id\":\"{:016x}\"}}",
        u8::from(month),
        7,
        4 + number % 11,
        number % 1_000,
        12_000 + order % 5_000,
        order % 65_536,
        20_000 + number % 4_000,
        22_000 + number % 900,
        hash(order),
        hash(order + 1),
        hash(number + 2)
    );
    line
}

/// Digits that do not compress, as ids do not.
fn hash(number: u64) -> u64 {
    number
        .wrapping_add(0x9e37_79b9)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(31)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Processor time of this process, in seconds.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or_default()
}
