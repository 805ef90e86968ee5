//! `mainstay verify`: do both journals, all tables and all decisions agree with the contract?

use std::process::ExitCode;

use clap::Args;

use crate::commands::explain::feeds;
use crate::screen::grouped;
use crate::state::Which;
use crate::verify::{Evidence, table};

const LONG: &str = "\
Check both journals, all tables and every decision against the contract

Reads every entry of both journals and every row of both databases, each database as it was at one moment, and \
checks the contract's invariants: stock is conserved at every prefix, orders and reservations agree, transitions are \
legal, the tables equal the fold of the journal, causes resolve across both services, hash chains verify, and every \
recorded decision, executed again on its recorded inputs, reaches the same state.

It can run while the pair is busy. What can only be judged when nothing is in flight is then put off; --at-rest \
judges it. For a pair that `mainstay up` did not start only the journals are read, over their feeds.";

const NOT_SEEN: &str = "\
\"nothing to check\" means that no fact of that kind can be seen from here: what clients were told, spans and attempts \
are seen by tests, drills and the demo.";

/// Check both journals, all tables and every decision against the contract
#[derive(Debug, Args)]
#[command(long_about = LONG, after_long_help = "Exit code 0 when every invariant holds, 1 when one is broken.")]
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
        let target = self.which.find()?;
        let evidence = match &target.state {
            Some(state) => Evidence::of_databases(&state.ready.databases).await?,
            None => Evidence::of_feeds(&feeds(&target)?).await?,
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
            if target.state.is_none() {
                println!("The databases are not reachable from here: tables were not compared.");
            }
            if report.nothing_to_check().next().is_some() {
                println!("{NOT_SEEN}");
            }
            let broken = report.broken().count();
            println!("{}", if broken == 0 { "Every invariant holds." } else { "The contract is broken." });
        }
        Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
