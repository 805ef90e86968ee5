//! The overload laboratory: a service of known capacity over real sockets, under an open-loop load.
//!
//! Each scenario runs without the crate, with each layer alone and with all layers on. The program prints one table and
//! draws plots.

// Counts and times of a run of minutes are far below 2^52 and never negative.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
// The compared numbers come from the same literals.
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
mod settings;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::time::Instant;

use crate::arm::Layer;
use crate::scenario::Lab;

/// Measures a service under overload, with the middleware and without it.
#[derive(Parser, Debug)]
struct Args {
    /// Folder for the plots
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run the short form of about a minute; exits with 1 if a claim is broken. Its bounds are wide enough for a busy
    /// machine
    #[arg(long)]
    quick: bool,
    /// Leave this layer out of "all on", to see which claim breaks
    #[arg(long, value_name = "LAYER")]
    without: Option<Layer>,
    /// Run only the scenarios with these names
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
    let runtime = tokio::runtime::Runtime::new()
        .expect("the operating system gives threads for the laboratory's runtime");
    let started = Instant::now();
    // The last scenario runs in virtual time and creates its own runtime.
    let done = runtime.block_on(scenario::all(&mut lab)).and_then(|()| scenario::deadlines(&mut lab));
    if let Err(error) = done {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    let holds = lab.report.print();
    println!("\n{:.0} s; plots in {}", started.elapsed().as_secs_f64(), lab.report.out.display());
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
