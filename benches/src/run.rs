//! The interleaved run and its table.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use local::{Postgres, PostgresOptions, TemporaryDirectory};

use crate::load;
use crate::variant::{self, Variant};

/// Measures orders per second of the pair beside the control, interleaved, over a private PostgreSQL on disk with
/// fsync on.
#[derive(Parser, Debug)]
struct Args {
    /// Rounds; each measures every variant once
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of load for each measurement
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Connections, each with one order at a time
    #[arg(long, default_value_t = 32)]
    connections: u64,
    /// Folder of another pair to measure beside ours; see the README
    #[arg(long, value_name = "DIR")]
    plain: Option<PathBuf>,
    /// Where the private PostgreSQL keeps its data: a disk whose flushes count
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    /// Measure only these
    #[arg(long, value_delimiter = ',', default_value = "pair,control,plain")]
    variants: Vec<String>,
}

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime for the load");
    match runtime.block_on(measure(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let place = args.disk.clone().unwrap_or_else(std::env::temp_dir);
    let home = TemporaryDirectory::create_in(&place)?;
    let mut options = PostgresOptions::kept(home.path().join("postgres"));
    options.fsync = true;
    options.max_connections = 150;
    let postgres = Postgres::start(options).await?;
    let wanted = |name: &str| args.variants.iter().any(|v| v == name);
    let mut variants: Vec<Variant> = Vec::new();
    if wanted("pair") {
        let programs = ["mainstay-order", "mainstay-inventory"];
        variants.push(variant::ours(&postgres, "pair", programs, home.path()).await?);
    }
    if wanted("control") {
        let programs = ["control-order", "control-inventory"];
        variants.push(variant::ours(&postgres, "control", programs, home.path()).await?);
    }
    if let (Some(folder), true) = (&args.plain, wanted("plain")) {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| home.path().join("target"), PathBuf::from);
        let program = variant::build(folder, &target)?;
        variants.push(variant::plain(&postgres, folder, &program).await?);
    }
    let time = Duration::from_secs(args.seconds);
    for variant in &variants {
        // Connections, prepared statements, the first page of every table.
        load::run(&variant.load(args.connections, Duration::from_secs(2))).await?;
    }
    let mut rounds: Vec<Vec<load::Seen>> = vec![Vec::new(); variants.len()];
    for round in 1..=args.rounds {
        for (variant, seen) in variants.iter().zip(&mut rounds) {
            let one = load::run(&variant.load(args.connections, time)).await?;
            println!(
                "round {round}/{} {:<8} {:>7.0} orders/s  p50 {:>6.1} ms  p99 {:>6.1} ms  {} not placed",
                args.rounds, variant.name, one.orders_per_second, one.p50_ms, one.p99_ms, one.others
            );
            seen.push(one);
        }
    }
    table(args, &variants, &rounds);
    drop(variants);
    postgres.stop().await?;
    Ok(())
}

fn table(args: &Args, variants: &[Variant], rounds: &[Vec<load::Seen>]) {
    let rate = |seen: &load::Seen| seen.orders_per_second;
    let base = rounds.first().map_or(f64::NAN, |seen| median(seen, rate));
    println!("\n{} connections, {} rounds of {} s, fsync on", args.connections, args.rounds, args.seconds);
    println!(
        "| variant | orders/s, median [range] | p50 ms | p99 ms | {} / it |",
        variants.first().map_or("", |v| v.name)
    );
    println!("|---|---|---|---|---|");
    for (variant, seen) in variants.iter().zip(rounds) {
        let rates: Vec<f64> = seen.iter().map(rate).collect();
        let (low, high) =
            (rates.iter().copied().fold(f64::MAX, f64::min), rates.iter().copied().fold(0.0, f64::max));
        let middle = median(seen, rate);
        println!(
            "| {} | {middle:.0} [{low:.0} to {high:.0}] | {:.1} | {:.1} | {:.2} |",
            variant.name,
            median(seen, |s| s.p50_ms),
            median(seen, |s| s.p99_ms),
            base / middle
        );
    }
}

fn median(seen: &[load::Seen], figure: impl Fn(&load::Seen) -> f64) -> f64 {
    let mut figures: Vec<f64> = seen.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
