//! Queries over segments.

use std::ops::ControlFlow;
use std::time::Duration;

use evidence::{Query, QueryError};

use crate::support::{Folder, NOON, add_good, line};

fn folder() -> Folder {
    let folder = Folder::new();
    let mut store = folder.open(NOON);
    add_good(&mut store, NOON, 30);
    for (second, route) in [(40, "/v1/orders"), (41, "/v1/orders"), (42, "/v1/orders/{id}/cancel")] {
        let at = NOON + Duration::from_secs(second);
        store.append(line(at, "bad", route, second).as_bytes(), at).unwrap();
    }
    store.finish(NOON + Duration::from_mins(1)).unwrap();
    add_good(&mut store, NOON + Duration::from_mins(2), 5);
    folder
}

#[test]
fn conditions_and_times_select_events_of_sealed_and_open_segments() {
    let folder = folder();
    assert_eq!(folder.count("verdict=bad route=/v1/orders"), (2, 2));
    assert_eq!(folder.count("status=503"), (3, 3));
    assert_eq!(folder.count("status>500 order_id=42"), (1, 1));
    assert_eq!(folder.count("principal=none"), (38, 38));
    let events = |from: &str, until: &str| {
        let query = Query::parse(from, until, "", "").unwrap();
        query.events(folder.path(), |_| ControlFlow::Continue(())).unwrap().matched
    };
    assert_eq!(events("2026-11-28T12:00:40Z", "2026-11-28T12:00:42Z"), 2);
    assert_eq!(events("2026-11-28T12:02:00Z", ""), 5);
    assert_eq!(events("", "2026-11-28T13:00:29.5+01:00"), 30);
}

#[test]
fn groups_are_counted_with_the_most_frequent_first() {
    let folder = folder();
    let query = Query::parse("", "", "service=order", "verdict,route").unwrap();
    assert_eq!(query.by(), ["verdict", "http.route"]);
    let (groups, summary) = query.groups(folder.path()).unwrap();
    let found: Vec<_> = groups.iter().map(|group| (group.values.join(" "), group.weight)).collect();
    let expected = [("good /v1/orders", 35), ("bad /v1/orders", 2), ("bad /v1/orders/{id}/cancel", 1)]
        .map(|(k, n)| (k.to_owned(), n));
    assert_eq!(found, expected);
    assert_eq!((summary.read, summary.matched, summary.unreadable), (38, 38, 0));
}

#[test]
fn memory_is_bounded_when_every_event_is_its_own_group() {
    let folder = Folder::new();
    let mut store = folder.open(NOON);
    let lines: String = (0..10_500).map(|number| line(NOON, "good", "/v1/orders", number)).collect();
    store.append(lines.as_bytes(), NOON).unwrap();
    let (groups, summary) = Query::parse("", "", "", "order").unwrap().groups(folder.path()).unwrap();
    assert_eq!((groups.len(), summary.matched, summary.ungrouped), (10_000, 10_500, 500));
}

#[test]
fn a_query_that_cannot_be_answered_says_why() {
    let refused = |from, conditions, by| Query::parse(from, "", conditions, by).unwrap_err();
    assert!(matches!(refused("yesterday", "", ""), QueryError::Time { .. }));
    assert!(matches!(refused("", "colour=red", ""), QueryError::UnknownFacet { .. }));
    assert!(refused("", "", "route,colour").to_string().contains("skus"));
}

#[test]
fn a_reader_that_has_enough_stops() {
    let folder = folder();
    let mut seen = 0;
    let each = |_: &[u8]| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    Query::parse("", "", "", "").unwrap().events(folder.path(), each).unwrap();
    assert_eq!(seen, 3);
}
