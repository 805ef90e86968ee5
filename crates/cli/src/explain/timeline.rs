//! The story of one or more orders: their entries, the times of waiting, and the requests without an entry.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use checker::{Recorded, Side};
use journal::Entry;
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::requests::{Requests, WithoutEntry};
use super::rows::{Row, in_causal_order, millis};

/// The age from which an open intent gets its own line.
const UNDECIDED: Duration = Duration::milliseconds(500);

/// The story of one or more orders.
#[derive(Debug, Serialize)]
pub(crate) struct Timeline {
    pub(crate) rows: Vec<Row>,
    pub(crate) waits: Vec<Wait>,
    /// Causes that are in neither journal, or in the one that could not be read.
    pub(crate) missing_causes: Vec<Uuid>,
    /// Journals that could not be read.
    pub(crate) unread: BTreeSet<Side>,
    /// Requests of tries without an entry, of the orders that were asked about.
    pub(crate) without_entry: BTreeMap<Uuid, WithoutEntry>,
    /// The number of entries that name each other as causes, or follow from such entries. They are at the end, in the
    /// order of their clocks.
    pub(crate) circular: usize,
}

/// A time in which the order service did not know the order's state at inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Wait {
    pub(crate) order: Uuid,
    pub(crate) kind: WaitKind,
    /// The order's state.
    pub(crate) state: String,
    /// The row that began it.
    pub(crate) from: usize,
    /// The row that ended it; `None` while it lasts.
    pub(crate) until: Option<usize>,
    pub(crate) lasted_ms: i64,
    /// The row of inventory's decision, made meanwhile or before; `None` when it is not known.
    pub(crate) fact: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WaitKind {
    /// A request was sent, and no reliable answer came.
    Unknown,
    /// The intent was recorded; its request was not sent, or not executed.
    Undecided,
}

impl Timeline {
    /// Builds the story. A wait that has not ended lasts until `now`.
    pub(crate) fn of(entries: Vec<(Side, Recorded)>, now: OffsetDateTime) -> Self {
        let (rows, missing_causes, circular) = in_causal_order(entries);
        let waits = waits(&rows, now);
        let (unread, without_entry) = (BTreeSet::new(), BTreeMap::new());
        Self { rows, waits, missing_causes, unread, without_entry, circular }
    }

    /// Marks the journals of these services as unread.
    pub(crate) fn without(self, unread: BTreeSet<Side>) -> Self {
        Self { unread, ..self }
    }

    /// The cause of the row's entry, if it is in the story.
    pub(crate) fn cause_of(&self, row: &Row) -> Option<&Entry<'static>> {
        row.cause.map(|cause| &self.rows[cause].entry)
    }

    /// Counts the requests to inventory of all entries.
    pub(crate) fn requests(&self) -> Requests {
        let mut all = Requests::default();
        for (order, requests) in self.requests_by_order() {
            all += self.without_entry.get(&order).map_or(requests, |counted| requests.with(*counted));
        }
        all
    }

    /// The orders with tries that have no entry, or may have such tries because they wait.
    pub(crate) fn orders_with_tries_without_entry(&self) -> BTreeSet<Uuid> {
        let by_order = self.requests_by_order().into_iter();
        let without_entry =
            by_order.filter(|(_, requests)| requests.tries_not_executed + requests.tries_unrecorded > 0);
        without_entry.map(|(order, _)| order).chain(self.waiting_orders()).collect()
    }

    fn requests_by_order(&self) -> BTreeMap<Uuid, Requests> {
        let mut all: BTreeMap<Uuid, Requests> = BTreeMap::new();
        let mut recorded: HashMap<Uuid, u64> = HashMap::new();
        for row in self.rows.iter().filter(|row| row.service == Side::Order) {
            let order = row.entry.aggregate_id;
            let mut requests = Requests::of(&row.entry);
            // The count of tries continues from one unknown state to the next entry, so that entry also counts its
            // predecessor's tries.
            let before = recorded.insert(order, requests.tries).unwrap_or(0);
            if row.entry.from.ends_with("_unknown") {
                requests.tries_unrecorded = requests.tries_unrecorded.saturating_sub(before);
            }
            *all.entry(order).or_default() += requests;
        }
        all
    }

    /// The orders whose last entry leaves them undecided.
    pub(crate) fn waiting_orders(&self) -> Vec<Uuid> {
        let is_open = |state: &str| {
            state.ends_with("_unknown") || matches!(state, "reserving" | "confirming" | "cancelling")
        };
        self.orders().into_iter().filter(|(.., last)| is_open(&last.entry.to)).map(|(id, ..)| id).collect()
    }

    /// Lists the orders of the story, each with its first and last row.
    pub(crate) fn orders(&self) -> Vec<(Uuid, &Row, &Row)> {
        let mut orders: Vec<(Uuid, &Row, &Row)> = Vec::new();
        for row in self.rows.iter().filter(|row| row.entry.aggregate_kind == "order") {
            let id = row.entry.aggregate_id;
            match orders.iter_mut().find(|(known, ..)| *known == id) {
                Some((.., last)) => *last = row,
                None => orders.push((id, row, row)),
            }
        }
        orders
    }
}

fn waits(rows: &[Row], now: OffsetDateTime) -> Vec<Wait> {
    let orders = rows.iter().enumerate().filter(|(_, row)| row.entry.aggregate_kind == "order");
    let found = orders.filter_map(|(from, row)| {
        let entry = &row.entry;
        let kind = match &*entry.to {
            "reserve_unknown" | "confirm_unknown" | "cancel_unknown" => WaitKind::Unknown,
            "reserving" | "confirming" | "cancelling" => WaitKind::Undecided,
            _ => return None,
        };
        let next = (entry.aggregate_id, entry.version + 1);
        let until = rows.iter().position(|row| (row.entry.aggregate_id, row.entry.version) == next);
        let lasted = until.map_or(now, |until| rows[until].entry.at) - entry.at;
        // An attempt that ended in an unknown state is described by that state's own wait.
        let is_described = until.is_some_and(|until| rows[until].entry.to.ends_with("_unknown"));
        if kind == WaitKind::Undecided && (lasted < UNDECIDED || is_described) {
            return None;
        }
        let fact = until
            .and_then(|until| rows[until].cause)
            .filter(|cause| rows[*cause].service == Side::Inventory)
            .or_else(|| decided_for(rows, entry));
        let (order, state) = (entry.aggregate_id, entry.to.to_string());
        Some(Wait { order, kind, state, from, until, lasted_ms: millis(lasted), fact })
    });
    found.collect()
}

/// Inventory's latest entry that the order's entries led to, for a wait that has not ended.
fn decided_for(rows: &[Row], waiting: &Entry) -> Option<usize> {
    rows.iter().rposition(|row| {
        let cause = row.cause.map(|cause| &rows[cause].entry);
        row.service == Side::Inventory
            && cause.is_some_and(|cause| {
                cause.aggregate_id == waiting.aggregate_id && cause.version + 1 >= waiting.version
            })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::tests::{BEGAN, ORDER, SampleEntry, lost_reply};
    use super::*;

    fn story(history: &[SampleEntry]) -> Timeline {
        Timeline::of(history.iter().map(SampleEntry::recorded).collect(), BEGAN + Duration::minutes(1))
    }

    fn ids(timeline: &Timeline) -> Vec<u128> {
        timeline.rows.iter().map(|row| row.entry.id.as_u128()).collect()
    }

    #[test]
    fn a_cause_stands_before_its_effect_although_its_clock_was_ahead() {
        let mut history = lost_reply();
        // Inventory's clock is a minute slow: by time alone its entries would come first.
        for entry in history.iter_mut().filter(|entry| entry.side == Side::Inventory) {
            entry.at -= 60_000;
        }
        history.reverse();
        assert_eq!(ids(&story(&history)), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn time_decides_where_causes_do_not() {
        let timeline = story(&lost_reply());
        assert_eq!(ids(&timeline), [1, 2, 3, 4, 5, 6, 7]);
        let causes: Vec<_> = timeline.rows.iter().map(|row| row.cause).collect();
        assert_eq!(causes, [None, Some(0), Some(0), Some(1), None, Some(4), Some(5)]);
        assert_eq!(timeline.rows[3].after_ms, 5_350);
    }

    #[test]
    fn an_unknown_outcome_has_a_beginning_an_end_and_inventorys_decision() {
        let timeline = story(&lost_reply());
        assert_eq!(timeline.waits.len(), 1);
        let unknown = &timeline.waits[0];
        assert_eq!((unknown.kind, unknown.lasted_ms), (WaitKind::Unknown, 4_310));
        assert_eq!((unknown.from, unknown.until, unknown.fact), (2, Some(3), Some(1)));
    }

    #[test]
    fn an_intent_that_stayed_open_long_is_a_wait() {
        let mut history = lost_reply();
        // No request was sent for three seconds: the state is not unknown, and still undecided.
        history.remove(2);
        history[2].version = 2;
        history[2].step = ("reserve", "reserving", "reserved");
        let timeline = story(&history);
        assert_eq!(timeline.waits.len(), 1);
        let wait = &timeline.waits[0];
        assert_eq!((wait.kind, wait.from, wait.until, wait.fact), (WaitKind::Undecided, 0, Some(2), Some(1)));
        assert_eq!(wait.lasted_ms, 5_350);
    }

    #[test]
    fn a_wait_that_has_not_ended_lasts_until_now_and_may_have_inventorys_decision() {
        let timeline = story(&lost_reply()[..3]);
        let wait = timeline.waits.iter().find(|wait| wait.kind == WaitKind::Unknown).unwrap();
        assert_eq!((wait.until, wait.fact, wait.lasted_ms), (None, Some(1), 58_960));
    }

    #[test]
    fn an_entry_that_was_found_twice_is_in_the_story_once() {
        let history: Vec<_> = lost_reply().into_iter().chain(lost_reply()).collect();
        assert_eq!(ids(&story(&history)), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_cause_that_is_in_no_journal_is_named_and_a_circle_is_not_followed() {
        let mut history = lost_reply();
        history[0].cause = Some(99);
        let timeline = story(&history);
        assert_eq!(timeline.missing_causes, [Uuid::from_u128(99)]);
        assert_eq!(ids(&timeline), [1, 2, 3, 4, 5, 6, 7]);

        history[0].cause = Some(2);
        let timeline = story(&history);
        assert_eq!((timeline.circular, timeline.rows.len()), (7, 7));
        assert_eq!(ids(&timeline), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_try_with_an_entry_is_not_counted_again_as_a_try_without_one() {
        let mut entries: Vec<_> = lost_reply().iter().map(SampleEntry::recorded).collect();
        let decision = json!({"layer": "attempt", "action": "unknown", "why": "cut off", "attempt": 1, "endpoint": null,
            "deadline_left_ms": 4, "at_ms": 5});
        let sent = |tries: u64| json!({"decisions": [decision], "tries": tries});
        // One try was refused before the unknown one, and one more decided nothing before the answer.
        entries[2].1.entry.evidence = sent(2);
        entries[3].1.entry.evidence = sent(4);
        let mut timeline = Timeline::of(entries, BEGAN);
        let requests = timeline.requests();
        assert_eq!((requests.sent, requests.tries_not_executed, requests.tries_unrecorded), (2, 1, 1));
        // The order's row has counted them.
        timeline.without_entry.insert(ORDER, WithoutEntry { sent: 1, refused_here: 1, unconnected: 2 });
        let history = timeline.requests().to_string();
        assert_eq!(history, "3 sent, 1 refused here before sending, 2 without a connection");
    }

    #[test]
    fn orders_are_listed_with_their_first_and_last_entry() {
        let timeline = story(&lost_reply());
        let orders = timeline.orders();
        assert_eq!(orders.len(), 1);
        assert_eq!((orders[0].1.entry.version, orders[0].2.entry.version), (1, 5));
    }

    proptest! {
        #[test]
        fn causes_come_first_for_every_order_of_finding_and_every_clock(
            shuffle in Just((0..7_usize).collect::<Vec<_>>()).prop_shuffle(),
            clocks in proptest::collection::vec(-100_000..100_000_i64, 7),
        ) {
            let mut history = lost_reply();
            for (entry, skew) in history.iter_mut().zip(&clocks) {
                entry.at += skew;
            }
            let entries = shuffle.iter().map(|n| history[*n].recorded()).collect();
            let timeline = Timeline::of(entries, BEGAN);
            prop_assert_eq!(timeline.rows.len(), 7);
            for (n, row) in timeline.rows.iter().enumerate() {
                prop_assert_eq!(row.entry.causation_id.is_some(), row.cause.is_some());
                prop_assert!(row.cause.is_none_or(|cause| cause < n));
                let mut later = timeline.rows[n..].iter().map(|later| &later.entry);
                let follows = later.all(|later| {
                    later.aggregate_id != row.entry.aggregate_id || later.version >= row.entry.version
                });
                prop_assert!(follows);
            }
        }
    }
}
