//! Entries of two journals in one order that never shows an effect before its cause.
//!
//! Causes decide the order: an entry comes after the entry that it names as its cause, and after the previous version
//! of its aggregate. The hybrid clock decides only between entries of which neither led to the other. So a wrong
//! clock can make the order unlikely but not impossible.

use std::cmp::Reverse;
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BinaryHeap, HashMap};

use checker::{Recorded, Side};
use journal::Entry;
use serde::Serialize;
use time::Duration;
use uuid::Uuid;

/// An entry at its place in the story.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) service: Side,
    pub(crate) seq: i64,
    pub(crate) hash: String,
    /// The row of the entry that caused this one.
    pub(crate) cause: Option<usize>,
    /// Milliseconds since the first row, by the services' own clocks.
    pub(crate) after_ms: i64,
    pub(crate) entry: Entry<'static>,
}

type Numbered = HashMap<Uuid, usize>;

/// Sorts the entries. Returns the rows, the causes that are in neither journal, and the number of entries in circles.
pub(super) fn in_causal_order(entries: Vec<(Side, Recorded)>) -> (Vec<Row>, Vec<Uuid>, usize) {
    let mut at: Numbered = HashMap::new();
    let mut versions: HashMap<(Side, Uuid, i64), usize> = HashMap::new();
    let mut unsorted: Vec<(Side, Recorded)> = Vec::new();
    // Several searches may have found the same entry.
    for (side, recorded) in entries {
        let entry = &recorded.entry;
        let MapEntry::Vacant(vacant) = at.entry(entry.id) else { continue };
        vacant.insert(unsorted.len());
        versions.insert((side, entry.aggregate_id, entry.version), unsorted.len());
        unsorted.push((side, recorded));
    }
    let mut effects: Vec<Vec<usize>> = vec![Vec::new(); unsorted.len()];
    let mut open_causes = vec![0_usize; unsorted.len()];
    let mut missing = Vec::new();
    for (n, (side, recorded)) in unsorted.iter().enumerate() {
        let entry = &recorded.entry;
        let cause = entry.causation_id.and_then(|cause| {
            let found = at.get(&cause).copied();
            if found.is_none() && !missing.contains(&cause) {
                missing.push(cause);
            }
            found
        });
        let previous = versions.get(&(*side, entry.aggregate_id, entry.version - 1)).copied();
        for before in [cause, previous].into_iter().flatten() {
            effects[before].push(n);
            open_causes[n] += 1;
        }
    }
    let key = |n: usize| {
        let (side, recorded) = &unsorted[n];
        Reverse((recorded.entry.hlc, *side, recorded.seq, n))
    };
    let mut ready: BinaryHeap<_> = (0..unsorted.len()).filter(|n| open_causes[*n] == 0).map(key).collect();
    let mut sorted = Vec::with_capacity(unsorted.len());
    while let Some(Reverse((.., n))) = ready.pop() {
        sorted.push(n);
        for effect in &effects[n] {
            open_causes[*effect] -= 1;
            if open_causes[*effect] == 0 {
                ready.push(key(*effect));
            }
        }
    }
    let circular = unsorted.len() - sorted.len();
    let mut rest: Vec<_> = (0..unsorted.len()).filter(|n| open_causes[*n] > 0).map(key).collect();
    rest.sort_by(|a, b| b.cmp(a));
    sorted.extend(rest.into_iter().map(|Reverse((.., n))| n));
    (rows(unsorted, &sorted), missing, circular)
}

fn rows(unsorted: Vec<(Side, Recorded)>, sorted: &[usize]) -> Vec<Row> {
    let mut unsorted: Vec<_> = unsorted.into_iter().map(Some).collect();
    let mut at: Numbered = HashMap::new();
    let mut rows: Vec<Row> = Vec::with_capacity(sorted.len());
    for (side, recorded) in sorted.iter().filter_map(|n| unsorted[*n].take()) {
        let Recorded { seq, hash, entry, .. } = recorded;
        at.insert(entry.id, rows.len());
        let first = rows.first().map_or(entry.at, |row| row.entry.at);
        let cause = entry.causation_id.and_then(|cause| at.get(&cause).copied());
        let after_ms = millis(entry.at - first);
        rows.push(Row { service: side, seq, hash, cause, after_ms, entry });
    }
    rows
}

pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.whole_milliseconds()).unwrap_or(i64::MAX)
}
