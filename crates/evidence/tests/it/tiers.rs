//! Segments, seals, tiers and the budget.

use std::io::Read;
use std::time::Duration;

use evidence::manifest::{Act, Manifest};
use flate2::read::GzDecoder;

use crate::support::{Folder, NOON, add_good, line};

#[test]
fn a_segment_ends_by_age_and_is_sealed_with_every_bad_event_and_weights_that_add_up() {
    let folder = Folder::new();
    let mut store = folder.open(NOON);
    add_good(&mut store, NOON, 25);
    for number in 0..3 {
        let at = NOON + Duration::from_secs(30 + number);
        store.append(line(at, "bad", "/v1/orders", number).as_bytes(), at).unwrap();
    }
    let confirmed = line(NOON + Duration::from_secs(40), "good", "/v1/orders/{id}/confirm", 1);
    store.append(confirmed.as_bytes(), NOON + Duration::from_secs(40)).unwrap();
    store.tick(NOON + Duration::from_secs(299)).unwrap();
    assert!(!folder.file("00000001.jsonl.gz").exists(), "the segment is not old enough");
    store.tick(NOON + Duration::from_mins(5)).unwrap();

    let mut text = String::new();
    let sealed = std::fs::File::open(folder.file("00000001.jsonl.gz")).unwrap();
    GzDecoder::new(sealed).read_to_string(&mut text).unwrap();
    let of = |part: &str| text.lines().filter(|line| line.contains(part)).collect::<Vec<_>>();
    assert_eq!(of("\"bad\"").len(), 3);
    let weight = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        event.get("weight").map_or(1, |weight| weight.as_u64().unwrap())
    };
    let good: Vec<u64> = of("\"http.route\":\"/v1/orders\",\"http.response.status_code\":201")
        .into_iter()
        .map(weight)
        .collect();
    assert_eq!(good, [10, 10, 5]);
    assert_eq!(of("/confirm").into_iter().map(weight).collect::<Vec<_>>(), [1]);

    let seals = Manifest::read(folder.path()).unwrap().seals;
    let Act::Sealed(segment) = &seals[0].act else { panic!("{seals:?}") };
    assert_eq!((segment.hot.events, segment.bad, segment.sealed.events), (29, 3, 7));
    assert_eq!(folder.count(""), (29, 29), "the hot tier still has all events");
    assert_eq!(folder.faults(), [""; 0]);
}

#[test]
fn a_segment_ends_by_size() {
    let folder = Folder::new();
    let mut store =
        evidence::Store::open(evidence::Options { segment_bytes: 1_000, ..folder.options() }, NOON)
            .unwrap()
            .0;
    add_good(&mut store, NOON, 20);
    store.tick(NOON).unwrap();
    assert!(folder.file("00000002.jsonl.gz").exists());
    assert_eq!(folder.count(""), (20, 20));
}

#[test]
fn a_query_reads_the_sealed_tier_with_its_weights_when_the_hot_one_has_expired() {
    let folder = Folder::new();
    let mut store = folder.open(NOON);
    add_good(&mut store, NOON, 100);
    store.append(line(NOON, "bad", "/v1/orders", 7).as_bytes(), NOON).unwrap();
    store.finish(NOON + Duration::from_mins(2)).unwrap();
    store.tick(NOON + Duration::from_hours(23)).unwrap();
    assert_eq!(folder.count(""), (101, 101));
    store.tick(NOON + Duration::from_hours(25)).unwrap();
    assert_eq!(folder.count(""), (11, 101));
    assert_eq!(folder.count("verdict=bad"), (1, 1));
    let tiers = store.tiers();
    assert_eq!((tiers.hot.bytes, tiers.sealed.segments), (0, 1));
    assert_eq!(tiers.sealed.oldest.as_deref(), Some("2026-11-28T12:00:00.000001Z"));
    store.tick(NOON + Duration::from_hours(8 * 24)).unwrap();
    assert_eq!(folder.count(""), (0, 0));
    assert_eq!(folder.faults(), [""; 0], "an expired file is no fault");
}

#[test]
fn the_budget_holds_and_the_oldest_events_go_first() {
    let folder = Folder::new();
    let budget = 100_000;
    let options = evidence::Options { budget, segment_bytes: 5_000, one_in: 2, ..folder.options() };
    let mut store = evidence::Store::open(options.clone(), NOON).unwrap().0;
    for turn in 0..400 {
        let at = NOON + Duration::from_secs(10 * turn);
        add_good(&mut store, at, 10);
        store.tick(at + Duration::from_secs(9)).unwrap();
        let used: u64 = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        // The open segment may grow by one batch before the store applies the budget.
        assert!(used <= budget + 5_000, "{used} bytes after turn {turn}");
    }
    assert_eq!(folder.faults(), [""; 0]);
    let first = Manifest::read(folder.path()).unwrap().seals.remove(0);
    assert!(first.seal > 1, "the manifest keeps no lines of segments that are gone");
    drop(store);
    let again = evidence::Store::open(options, NOON + Duration::from_hours(2)).unwrap().0;
    assert!(again.tiers().sealed.segments > 1);
    assert_eq!(folder.faults(), [""; 0]);
}

#[test]
fn a_clock_that_is_stepped_back_ends_the_segment_and_expires_nothing() {
    let folder = Folder::new();
    let mut store = folder.open(NOON);
    add_good(&mut store, NOON, 10);
    let back = NOON - Duration::from_hours(24 * 30);
    add_good(&mut store, back, 10);
    store.tick(back).unwrap();
    assert!(folder.file("00000001.jsonl.gz").exists(), "the segment of the old time is sealed");
    assert_eq!(folder.count(""), (20, 20));
    store.finish(back).unwrap();
    drop(store);
    let store = folder.open(back);
    assert_eq!(store.tiers().hot.segments, 2);
    assert_eq!(folder.faults(), [""; 0]);
    let query = evidence::Query::parse("2026-11-28T12:00:00Z", "", "", "").unwrap();
    let summary = query.events(folder.path(), |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert_eq!(summary.matched, 10, "events are found by their own time");
}

#[test]
fn a_folder_belongs_to_one_process() {
    let folder = Folder::new();
    let store = folder.open(NOON);
    let error = evidence::Store::open(folder.options(), NOON).unwrap_err();
    assert!(matches!(error, evidence::OpenError::InUse(_)), "{error}");
    drop(store);
    folder.open(NOON);
}
