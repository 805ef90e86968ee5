//! `mainstay verify`: checks both journals, all tables and all decisions against the contract.

use std::process::ExitCode;

use clap::Args;

use crate::feeds::Feeds;
use crate::screen::grouped;
use crate::state::Which;
use crate::verify::{Evidence, clocks, conclusion, not_judged, table};

const LONG: &str = "\
Check both journals, all tables and every decision against the contract

Reads every entry of both journals and every row of both databases, each database as it was at one moment, and \
checks the contract's invariants: stock is conserved at every prefix, orders and reservations agree, transitions are \
legal, the tables equal the fold of the journal, causes resolve across both services, hash chains verify, and every \
recorded decision, executed again on its recorded inputs, reaches the same state.

It can run while the pair is busy. Facts that can be judged only when nothing is in flight are then deferred; --at-rest \
judges them. For a pair that `mainstay up` did not start only the journals are read, over their feeds.

An entry or a row that this release cannot read, such as one of a later release, is named and not judged, nor are the \
facts that depend on it; everything else is judged. Clocks that differ between hosts are stated and break no invariant.";

const EXIT: &str = "\
Exit code 0 when every invariant that can be checked holds, 1 when one is broken, 2 when the pair cannot be read, 3 when \
none is broken but some data could not be judged.";

/// The exit code when nothing is broken and some data could not be judged.
const NOT_JUDGED: u8 = 3;
/// The exit code when the pair cannot be read. Wrong arguments have the same code.
const NOT_READ: u8 = 2;

const NOT_SEEN: &str = "\
\"nothing to check\" means that this command sees no fact of that kind: clients' replies, spans and attempts \
are seen by tests, drills and the demo.";

/// Check both journals, all tables and every decision against the contract
#[derive(Debug, Args)]
#[command(long_about = LONG, after_help = EXIT)]
pub(super) struct Verify {
    /// Faults have stopped and everything should be resolved: judge that too
    #[arg(long)]
    at_rest: bool,
    /// Print the whole report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

impl Verify {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.verify().await {
            Ok(code) => Ok(code),
            Err(error) => {
                eprintln!("mainstay: {error:#}");
                Ok(NOT_READ.into())
            }
        }
    }

    async fn verify(self) -> anyhow::Result<ExitCode> {
        let target = self.which.find()?;
        let mut evidence = match &target.state {
            Some(state) => Evidence::of_databases(&state.ready.databases).await?,
            None => Evidence::of_feeds(&Feeds::whole(&target)?).await?,
        };
        let report = evidence.check(self.at_rest);
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            println!(
                "{} journal entries of both services, {}:\n",
                grouped(report.entries),
                if report.at_rest { "at rest" } else { "while the pair is running" }
            );
            println!("{}", table(&report));
            print!("{}{}", not_judged(&report), clocks(&report));
            if target.state.is_none() {
                println!("The databases are not reachable from here: tables were not compared.");
            }
            if report.nothing_to_check().next().is_some() {
                println!("{NOT_SEEN}");
            }
            let conclusion = conclusion(&report);
            let (first, rest) = conclusion.split_at(1);
            println!("{}{rest}.", first.to_uppercase());
        }
        Ok(if report.is_broken() {
            ExitCode::FAILURE
        } else if report.is_judged() {
            ExitCode::SUCCESS
        } else {
            NOT_JUDGED.into()
        })
    }
}
