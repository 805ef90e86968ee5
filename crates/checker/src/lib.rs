//! The checker of the contract's twelve invariants. Every test tier, every drill and `mainstay verify` use it.
//!
//! A fact has one of three verdicts: it holds, it is broken, or it is not judged. "Not judged" is for data of another
//! release: an entry, kind, status, rule or value that this release cannot read. Such data blocks itself and the
//! facts that depend on it; a fact that depends on it and holds all the same is judged. A wrong hash, a broken chain
//! or a wrong result of a known rule is never excused as data of another release.
//!
//! The checker is pure: journals, tables and logs go in, a [`Report`] comes out. Time and memory grow linearly with
//! the number of entries. Only the feature `postgres` does I/O: it reads the services' databases. The checker depends
//! on none of the services' code. The [`Contract`] gives it their rules as data, and the module `facts` alone knows
//! the members of an entry's `inputs`.
//!
//! ```
//! use checker::{Checker, Observed, Rule, sample};
//!
//! let history = sample::healthy(3);
//! let contract = sample::contract();
//! let mut checker = Checker::new(&contract);
//! for (side, recorded) in &history.entries {
//!     checker.entry(*side, recorded);
//! }
//! let report = checker.finish(&history.observed);
//! assert!(report.is_clean(), "{report}");
//! report.require(&[Rule::StockConserved, Rule::ChainVerifies]).expect("both met facts");
//! ```

mod checks;
mod contract;
mod entry;
mod facts;
mod fold;
mod known;
mod observed;
#[cfg(feature = "postgres")]
pub mod postgres;
mod report;
pub mod sample;

pub use contract::{AttemptBudget, Contract, Decide};
pub use entry::{JournalRow, Recorded, Side, Unreadable};
pub use observed::{
    Call, ClientReply, ClientRequest, Gauge, HiddenRow, ItemRow, JournalTable, KeyRow, Line, MiscopiedRow,
    Observed, OrderRow, ReservationRow, Session, Start, StoredReply, Tables, UnreadRow, Work,
};
pub use report::{ClockOffset, Clocks, Finding, NotJudged, Report, Rule, Unknown, Violation};

use checks::{
    acknowledged, agreement, attempts, causes, deadlines, evidence, keys, replies, resources, stock,
};
use checks::{tables, transitions, uniqueness};
use fold::Fold;
use known::Known;
use report::Tally;

/// A check in progress. It reads one entry at a time, so that a journal need not fit in memory.
#[derive(Debug)]
pub struct Checker<'a> {
    contract: &'a Contract<'a>,
    fold: Fold,
    tally: Tally,
    entries: u64,
    causes: causes::Causes,
    uniqueness: uniqueness::Uniqueness,
    acknowledged: acknowledged::Journalled,
}

impl<'a> Checker<'a> {
    /// Creates a checker that has read no entry.
    pub fn new(contract: &'a Contract<'a>) -> Self {
        Self {
            contract,
            fold: Fold::default(),
            tally: Tally::new(),
            entries: 0,
            causes: causes::Causes::default(),
            uniqueness: uniqueness::Uniqueness::default(),
            acknowledged: acknowledged::Journalled::default(),
        }
    }

    /// Reads the next row of one service's journal. Rows of one journal come in commit order; the interleaving of the
    /// two journals does not matter.
    pub fn row(&mut self, side: Side, row: &JournalRow) {
        match row {
            JournalRow::Entry(recorded) => self.entry(side, recorded),
            JournalRow::Unreadable(row) => self.unreadable(side, row),
        }
    }

    /// Reads the next entry of one service's journal: see [`Checker::row`].
    pub fn entry(&mut self, side: Side, recorded: &Recorded) {
        let tally = &mut self.tally;
        self.entries += 1;
        self.fold.find_lost(side, &recorded.entry);
        let known = Known::of(self.contract, &recorded.entry);
        if let Some((unknown, what)) = &known.unknown {
            tally.unknown(*unknown, fold::at(side, recorded, what));
        }
        evidence::entry(&known, &self.fold, side, recorded, tally);
        transitions::entry(self.contract, &known, &self.fold, side, recorded, tally);
        self.causes.entry(&self.fold, side, recorded, tally);
        self.acknowledged.entry(side, recorded);
        let fact = facts::read(&recorded.entry);
        let is_understood = known.has_known_states() && (known.has_known_rule() || fact.is_ok());
        let fact = fact.unwrap_or_else(|missing| {
            tally.judge(Rule::StockConserved, false, known.unknown.is_some(), || {
                fold::at(side, recorded, missing)
            });
            facts::Fact::Nothing
        });
        stock::read(&self.fold, &known, side, recorded, tally);
        let moved = self.fold.apply(side, recorded, fact);
        if !is_understood {
            let entry = &recorded.entry;
            self.fold.doubt(side, entry.aggregate_id, Some(&entry.aggregate_kind));
        }
        stock::entry(&self.fold, side, recorded, &moved, tally);
        self.uniqueness.entry(&self.fold, side, recorded, tally);
    }

    /// Reads a row that is not an entry of this release. Its bytes must still have the hash that the journal states.
    fn unreadable(&mut self, side: Side, row: &Unreadable) {
        self.entries += 1;
        let place = |what: String| Violation {
            service: Some(side),
            aggregate: row.aggregate,
            version: row.version,
            seq: Some(row.seq),
            what,
        };
        evidence::bytes(&row.body, &row.hash, &mut self.tally, place);
        self.tally.unknown(Unknown::Entry, place(row.why.clone()));
        self.fold.lose(side, row);
    }

    /// Compares the folded journals with everything else that was observed.
    pub fn finish(self, observed: &Observed) -> Report {
        let Self { contract, fold, mut tally, entries, causes, uniqueness, acknowledged } = self;
        let tally_ref = &mut tally;
        unread(observed, tally_ref);
        causes.finish(&fold, observed, tally_ref);
        agreement::finish(contract, &fold, observed, tally_ref);
        if let Some(rows) = &observed.tables {
            let exact = observed.at_rest || observed.one_snapshot;
            tables::finish(&fold, observed, rows, exact, tally_ref);
            stock::finish(contract, &fold, observed, rows, exact, tally_ref);
            uniqueness.finish(rows, tally_ref);
        }
        tables::journals(observed, tally_ref);
        keys::finish(&fold, observed, tally_ref);
        acknowledged.finish(&fold, observed, tally_ref);
        replies::finish(observed, tally_ref);
        deadlines::finish(observed, tally_ref);
        attempts::finish(contract, observed, tally_ref);
        resources::finish(observed, tally_ref);
        tally.finish(observed.at_rest, entries)
    }
}

/// Records the table rows that could not be read.
fn unread(observed: &Observed, tally: &mut Tally) {
    for row in &observed.unread {
        let what = format!("{}: {}", row.table, row.what);
        let place =
            Violation { service: Some(row.service), aggregate: row.aggregate, ..Violation::new(what) };
        tally.unknown(Unknown::Row, place);
    }
}
