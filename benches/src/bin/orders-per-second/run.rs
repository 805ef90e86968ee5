//! The interleaved run of all variants and its table.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use local::{Postgres, PostgresOptions, TemporaryDirectory};
use sqlx::{Connection, PgConnection};

use pair_benches::variant::{self, Variant};
use pair_benches::{load, median};

use crate::cpu;

/// Measures orders per second of the pair beside the control, interleaved, over a private PostgreSQL on disk with
/// fsync on.
#[derive(Parser, Debug)]
struct Args {
    /// Rounds; each measures every variant once
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of load for each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Connections, each with one order at a time
    #[arg(long, default_value_t = 32)]
    connections: u64,
    /// Folder of another implementation to compare with; see the README
    #[arg(long, value_name = "DIR")]
    plain: Option<PathBuf>,
    /// Folder for the data of the private PostgreSQL, on a disk that really flushes
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    /// Put the same SKU into every order, besides a second one
    #[arg(long)]
    hot: bool,
    /// Measure only these variants
    #[arg(long, value_delimiter = ',', default_value = "pair,control,plain")]
    variants: Vec<String>,
}

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Runtime::new().expect("the operating system gives threads for the load's runtime");
    match runtime.block_on(measure(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let parent = args.disk.clone().unwrap_or_else(std::env::temp_dir);
    let home = TemporaryDirectory::create_in(&parent)?;
    let mut options = PostgresOptions::kept(home.path().join("postgres"));
    options.fsync = true;
    options.max_connections = 150;
    let postgres = Postgres::start(options).await?;
    let wanted = |name: &str| args.variants.iter().any(|v| v == name);
    let mut variants: Vec<Variant> = Vec::new();
    if wanted("pair") {
        let programs = ["mainstay-order", "mainstay-inventory"];
        variants.push(variant::ours(&postgres, "pair", programs, home.path(), &[]).await?);
    }
    if wanted("control") {
        let programs = ["control-order", "control-inventory"];
        variants.push(variant::ours(&postgres, "control", programs, home.path(), &[]).await?);
    }
    if let (Some(folder), true) = (&args.plain, wanted("plain")) {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| home.path().join("target"), PathBuf::from);
        let program = variant::build(folder, &target)?;
        variants.push(variant::plain(&postgres, folder, &program, &[]).await?);
    }
    let time = Duration::from_secs(args.seconds);
    for variant in &mut variants {
        variant.target.is_hot = args.hot;
        // Warm up: open connections, prepare statements, create the first pages of the tables.
        load::run(&variant.target, args.connections, Duration::from_secs(2)).await?;
        for database in &variant.databases {
            // The tables were empty a moment ago, so their plans are sequential scans. Without ANALYZE the server
            // corrects them only after a minute.
            let mut connection = PgConnection::connect(database).await?;
            sqlx::raw_sql("ANALYZE").execute(&mut connection).await?;
            connection.close().await?;
        }
    }
    let mut rounds: Vec<Vec<Round>> = variants.iter().map(|_| Vec::new()).collect();
    let server = postgres.pid();
    for round in 1..=args.rounds {
        for each in order(round, variants.len()) {
            let (variant, measured) = (&variants[each], &mut rounds[each]);
            let used = || (cpu::seconds(variant.pids()), cpu::seconds(server));
            let before = used();
            let one = load::run(&variant.target, args.connections, time).await?;
            let after = used();
            let per_order = |seconds: f64| 1e3 * seconds / one.orders;
            let one = Round {
                services_ms: per_order(after.0 - before.0),
                postgres_ms: per_order(after.1 - before.1),
                figures: one,
            };
            println!(
                "round {round}/{} {:<8} {:>7.0} orders/s  p50 {:>6.1} ms  p99 {:>6.1} ms  {} not placed",
                args.rounds,
                variant.name,
                one.figures.orders_per_second,
                one.figures.p50_ms,
                one.figures.p99_ms,
                one.figures.others
            );
            measured.push(one);
        }
    }
    table(args, &variants, &rounds);
    drop(variants);
    postgres.stop().await?;
    Ok(())
}

/// Order of the variants in a round. Two variants come in both orders, three in all six orders within six rounds.
///
/// A variant leaves work behind for the server and the disk, which must not always slow down the same other variant.
fn order(round: usize, variants: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..variants).map(|position| (round / 2 + position) % variants).collect();
    if round.is_multiple_of(2) {
        order.reverse();
    }
    order
}

/// Measurement of one variant in one round.
struct Round {
    figures: load::Figures,
    /// Processor time of both services per order.
    services_ms: f64,
    /// Processor time of PostgreSQL per order.
    postgres_ms: f64,
}

impl Round {
    fn rate(&self) -> f64 {
        self.figures.orders_per_second
    }
}

fn table(args: &Args, variants: &[Variant], rounds: &[Vec<Round>]) {
    let (Some(first), Some(base)) = (variants.first(), rounds.first()) else { return };
    println!(
        "\n{} connections, {} rounds of {} s, fsync on; medians",
        args.connections, args.rounds, args.seconds
    );
    println!(
        "| variant | orders/s [range] | p50 ms | p99 ms | CPU ms/order: services | PostgreSQL | {} / variant, median of the rounds |",
        first.name
    );
    println!("|---|---|---|---|---|---|---|");
    for (variant, own) in variants.iter().zip(rounds) {
        let rates: Vec<f64> = own.iter().map(Round::rate).collect();
        let (low, high) =
            (rates.iter().copied().fold(f64::MAX, f64::min), rates.iter().copied().fold(0.0, f64::max));
        // Each ratio is of two measurements of the same round, taken within seconds of each other.
        let ratios = base.iter().zip(own).map(|(base, own)| base.rate() / own.rate());
        println!(
            "| {} | {:.0} [{low:.0} to {high:.0}] | {:.1} | {:.1} | {:.2} | {:.2} | {:.2} |",
            variant.name,
            median(rates.iter().copied()),
            median(own.iter().map(|r| r.figures.p50_ms)),
            median(own.iter().map(|r| r.figures.p99_ms)),
            median(own.iter().map(|r| r.services_ms)),
            median(own.iter().map(|r| r.postgres_ms)),
            median(ratios)
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn two_variants_and_three_come_in_every_order() {
        for (variants, orders) in [(1, 1), (2, 2), (3, 6)] {
            let seen: HashSet<_> = (1..=6).map(|round| order(round, variants)).collect();
            assert_eq!(seen.len(), orders);
            assert!(seen.iter().all(|order| (0..variants).all(|each| order.contains(&each))));
        }
    }
}
