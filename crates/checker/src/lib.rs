//! The one checker of the contract's twelve invariants, shared by every test tier, every drill and
//! `mainstay verify`.
//!
//! It is pure, but for the feature `postgres`, which reads the services' databases for it: journals, tables and logs
//! go in, a [`Report`] comes out, and time and memory grow with the number
//! of entries and no faster. It knows none of the services' code. What it holds them to is data, the
//! [`Contract`], and what it knows about an entry's `inputs` is in one file, `facts`.
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
mod observed;
#[cfg(feature = "postgres")]
pub mod postgres;
mod report;
pub mod sample;

pub use contract::{AttemptBudget, Contract, Decide};
pub use entry::{Recorded, Side};
pub use observed::{
    Call, ClientReply, ClientRequest, Gauge, ItemRow, KeyRow, Line, Observed, OrderRow, ReservationRow,
    Session, Start, StoredReply, Tables, Work,
};
pub use report::{Finding, Report, Rule, Violation};

use checks::{acknowledged, agreement, attempts, causes, deadlines, evidence, replies, resources, stock};
use checks::{tables, transitions, uniqueness};
use fold::Fold;
use report::Tally;

/// A check in progress: entries are read one at a time, so that a journal need not fit in memory.
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
    /// A checker that has read nothing yet.
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

    /// Reads the next entry of one service's journal, in commit order. How the two journals are interleaved does
    /// not matter.
    pub fn entry(&mut self, side: Side, recorded: &Recorded) {
        let tally = &mut self.tally;
        self.entries += 1;
        evidence::entry(self.contract, &self.fold, side, recorded, tally);
        transitions::entry(self.contract, &self.fold, side, recorded, tally);
        self.causes.entry(&self.fold, side, recorded, tally);
        self.acknowledged.entry(side, recorded);
        let fact = facts::read(&recorded.entry).unwrap_or_else(|missing| {
            tally.check(Rule::StockConserved, false, || fold::at(side, recorded, missing));
            facts::Fact::Nothing
        });
        stock::read(&self.fold, side, recorded, tally);
        let moved = self.fold.apply(side, recorded, fact);
        stock::entry(&self.fold, side, recorded, &moved, tally);
        self.uniqueness.entry(&self.fold, side, recorded, tally);
    }

    /// Holds the folded journals against everything else that was observed.
    pub fn finish(self, observed: &Observed) -> Report {
        let Self { contract, fold, mut tally, entries, causes, uniqueness, acknowledged } = self;
        let tally_ref = &mut tally;
        causes.finish(&fold, observed, tally_ref);
        agreement::finish(contract, &fold, observed, tally_ref);
        if let Some(rows) = &observed.tables {
            let exact = observed.at_rest || observed.one_snapshot;
            tables::finish(&fold, rows, exact, tally_ref);
            stock::finish(&fold, rows, exact, tally_ref);
            uniqueness.finish(rows, tally_ref);
        }
        acknowledged.finish(&fold, observed, tally_ref);
        replies::finish(observed, tally_ref);
        deadlines::finish(observed, tally_ref);
        attempts::finish(contract, observed, tally_ref);
        resources::finish(observed, tally_ref);
        tally.finish(observed.at_rest, entries)
    }
}
