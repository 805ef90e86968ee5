//! The overload laboratory: a service of known capacity over real sockets, an open-loop load, and the same troubles with
//! the crate off, with each layer alone and with everything on. Prints one table and draws the plots.

// Counts and times of a run of minutes: far below 2^52, and never negative.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
// What is compared are the same literals.
#![allow(clippy::float_cmp)]

mod arm;
mod figures;
mod load;
mod naive;
mod plot;
mod report;
mod scenario;
mod series;
mod service;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::time::Instant;

use crate::arm::Layer;
use crate::scenario::Lab;

/// Measures what the middleware does for a service under overload, beside the same service without it.
#[derive(Parser, Debug)]
struct Args {
    /// Where the plots go
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// About a minute, with bounds so generous that a noisy machine keeps them; fails when one is broken
    #[arg(long)]
    quick: bool,
    /// Leave this layer out of "all on", to see which claim breaks
    #[arg(long, value_name = "LAYER")]
    without: Option<Layer>,
    /// Only the scenarios of these names
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let out = args.out.clone().unwrap_or_else(|| {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        target.join("overload")
    });
    let mut lab = Lab::new(out, args.quick, args.without, args.only);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime for the laboratory");
    let began = Instant::now();
    // The virtual clock of the last scenario needs a runtime of its own.
    let done = runtime.block_on(scenario::all(&mut lab)).and_then(|()| scenario::deadlines(&mut lab));
    if let Err(error) = done {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    let holds = lab.report.print();
    println!("\n{:.0} s; plots in {}", began.elapsed().as_secs_f64(), lab.report.out.display());
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
