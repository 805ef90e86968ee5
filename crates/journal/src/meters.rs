//! Metrics of the journal and of its database. Every series exists at zero from the start: a series that begins above
//! zero has no increase, so a rule would miss the first events of a process.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{Database, State};

const ENTRIES: &str = "mainstay_journal_entries_total";
const TRANSACTIONS: &str = "mainstay_db_transactions_total";
const CONFLICTS: &str = "mainstay_db_conflicts_total";
const REPLACED: &str = "mainstay_db_sessions_replaced_total";
const ACQUIRE: &str = "mainstay_db_acquire_seconds";
const CONNECTIONS: &str = "mainstay_db_connections";

/// Starts the counters of entries at zero, one for each state of a kind of aggregate.
pub fn start_entries<S: State>(states: impl IntoIterator<Item = S>) {
    describe_counter!(ENTRIES, "Committed journal entries by kind of aggregate and new state");
    for state in states {
        counter!(ENTRIES, "kind" => S::KIND, "to" => state.as_str()).increment(0);
    }
}

/// Counts an entry whose transaction has committed. An entry of a driver that was overtaken is not written and does not
/// count.
pub fn count_entry<S: State>(to: S) {
    count_entries_of(S::KIND, to.as_str(), 1);
}

/// Counts committed entries by the names of their kind and state.
pub fn count_entries_of(kind: &'static str, to: &'static str, entries: u64) {
    counter!(ENTRIES, "kind" => kind, "to" => to).increment(entries);
}

/// Result of a transaction, for its counter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended {
    Ok,
    NotExecuted,
    Unknown,
}

impl Ended {
    const ALL: [Self; 3] = [Self::Ok, Self::NotExecuted, Self::Unknown];

    fn counter(self) -> metrics::Counter {
        let result = match self {
            Self::Ok => "ok",
            Self::NotExecuted => "not_executed",
            Self::Unknown => "unknown",
        };
        counter!(TRANSACTIONS, "result" => result)
    }

    pub(crate) fn count(self) {
        self.counter().increment(1);
    }
}

pub(crate) fn start_database() {
    describe_counter!(TRANSACTIONS, "Transactions by result: ok, not_executed, unknown");
    describe_counter!(CONFLICTS, "Transactions that lost a race for rows and were tried again or refused");
    describe_counter!(REPLACED, "Database sessions that were closed because they failed as sessions");
    describe_histogram!(ACQUIRE, Unit::Seconds, "Time until work had a connection, or was refused one");
    describe_gauge!(
        CONNECTIONS,
        "Connections of the requests' pool by state: open, idle; and requests that wait"
    );
    for ended in Ended::ALL {
        ended.counter().increment(0);
    }
    counter!(CONFLICTS).increment(0);
    counter!(REPLACED).increment(0);
    let _: metrics::Histogram = acquire();
}

pub(crate) fn conflict() {
    counter!(CONFLICTS).increment(1);
}

pub(crate) fn session_replaced() {
    counter!(REPLACED).increment(1);
}

pub(crate) fn acquire() -> metrics::Histogram {
    histogram!(ACQUIRE)
}

impl Database {
    /// Sets the gauges of this pool's connections. A service calls it for the pool of its requests, every few seconds.
    pub fn publish_connections(&self) {
        let (open, idle) = self.connections();
        for (state, count) in [("open", open), ("idle", idle), ("waiting", self.waiting())] {
            gauge!(CONNECTIONS, "state" => state).set(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }
}
