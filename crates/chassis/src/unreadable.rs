//! Rows that this release cannot read: named in the log, counted, and reported by readiness.
//!
//! A newer release, a restore or an accident may leave a row with a value that this release does not know. Such a row
//! blocks only itself: a reader notes it here, skips it and goes on with the other rows.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use tokio::time::Instant;

use crate::ops::Condition;

/// Time after which a row that no reader noted again counts as readable or deleted. Sweeps read a row once a minute.
const REMEMBERED: Duration = Duration::from_secs(150);

/// Time after which the log names the same row again.
const LOGGED_AGAIN: Duration = Duration::from_mins(5);

/// Most rows that are remembered, in about 200 KB. Further rows are skipped and not counted.
const MOST: usize = 1_024;

/// Number of rows that readiness names.
const NAMED: usize = 3;

/// The rows that were noted lately, by table and id. Clones share them.
#[derive(Debug, Clone)]
pub struct UnreadableRows {
    tables: &'static [&'static str],
    rows: Arc<Mutex<HashMap<(&'static str, String), NotedRow>>>,
}

#[derive(Debug)]
struct NotedRow {
    why: String,
    last: Instant,
    logged: Instant,
}

impl UnreadableRows {
    /// An empty set for `tables`. Their metrics exist from now on, at zero.
    pub fn new(tables: &'static [&'static str]) -> Self {
        describe_gauge!("mainstay_rows_unreadable", "Rows that this release cannot read, met within 150 s");
        describe_counter!(
            "mainstay_rows_unreadable_total",
            "Rows that this release could not read when first met"
        );
        for table in tables {
            gauge!("mainstay_rows_unreadable", "table" => *table).set(0.0);
            counter!("mainstay_rows_unreadable_total", "table" => *table).increment(0);
        }
        Self { tables, rows: Arc::default() }
    }

    /// Notes a row of `table` that could not be read. The log names it once, and again every five minutes.
    pub fn note(&self, table: &'static str, id: impl Display, why: impl Display) {
        let now = Instant::now();
        let (key, mut rows) = ((table, id.to_string()), self.rows());
        let is_full = rows.len() >= MOST;
        let is_new = match rows.get_mut(&key) {
            Some(met) => {
                met.last = now;
                if now - met.logged < LOGGED_AGAIN {
                    return;
                }
                met.logged = now;
                false
            }
            None if is_full => return,
            None => true,
        };
        let why = why.to_string();
        tracing::error!(table, id = key.1, why, "row unreadable by this release; skipped");
        if is_new {
            counter!("mainstay_rows_unreadable_total", "table" => table).increment(1);
            rows.insert(key, NotedRow { why, last: now, logged: now });
        }
        drop(rows);
        self.publish();
    }

    /// Forgets the rows that no reader noted lately, and sets the gauges. Call it every few seconds.
    pub fn publish(&self) {
        let mut rows = self.rows();
        rows.retain(|_, met| met.last.elapsed() < REMEMBERED);
        for table in self.tables {
            let count = rows.keys().filter(|(t, _)| t == table).count();
            gauge!("mainstay_rows_unreadable", "table" => *table)
                .set(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// The condition `rows`, which decides nothing. It names the first rows.
    pub fn condition(&self) -> Condition {
        self.publish();
        let rows = self.rows();
        let mut named: Vec<_> = rows.iter().map(|((table, id), met)| (table, id, &met.why)).collect();
        if named.is_empty() {
            return Condition::reported("rows", true);
        }
        named.sort();
        let some: Vec<_> =
            named.iter().take(NAMED).map(|(table, id, why)| format!("{table} {id}: {why}")).collect();
        Condition::reported("rows", false).detail(format!(
            "{} cannot be read by this release: {}",
            plural(named.len(), "row"),
            some.join("; ")
        ))
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<(&'static str, String), NotedRow>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `1 row`, `2 rows`.
pub fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_row_is_reported_while_it_is_met_and_forgotten_afterwards() {
        let unreadable = UnreadableRows::new(&["orders"]);
        assert!(unreadable.condition().ok);
        unreadable.note("orders", 7, "the status is unknown");
        unreadable.note("orders", 7, "the status is unknown");
        let told = unreadable.condition();
        assert!(!told.ok && !told.decides);
        assert_eq!(
            told.detail.as_deref(),
            Some("1 row cannot be read by this release: orders 7: the status is unknown")
        );
        tokio::time::advance(REMEMBERED).await;
        assert!(unreadable.condition().ok);
    }

    #[tokio::test]
    async fn a_flood_of_unreadable_rows_takes_a_bounded_memory() {
        let unreadable = UnreadableRows::new(&["orders"]);
        for id in 0..2 * MOST {
            unreadable.note("orders", id, "no");
        }
        assert_eq!(unreadable.rows().len(), MOST);
    }
}
