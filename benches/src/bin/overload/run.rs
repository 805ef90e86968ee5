//! Runs of the benchmark and their table.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use local::{Postgres, PostgresOptions, TemporaryDirectory};
use pair_benches::variant::{self, Variant};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{Instant, sleep};

use crate::figures::{Figures, figures, normal_after};
use crate::load::{self, End, Phase};

/// Offers the pair several times its capacity, from clients that try three times without a pause, and then half of its
/// capacity. Prints how many orders succeeded and how soon the pair was normal again. Each service has 4 connections
/// to its database, and a reservation takes 20 ms there, so that two processors can offer ten times the capacity. Exits
/// with 1 if a goal is missed.
#[derive(Parser, Debug)]
struct Args {
    /// Offered load, as multiples of the capacity
    #[arg(long, value_delimiter = ',', default_value = "2,10")]
    times: Vec<f64>,
    /// Seconds of overload
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds at half the capacity after the overload
    #[arg(long, default_value_t = 15.0)]
    after: f64,
    /// Attempts of each client
    #[arg(long, default_value_t = 3)]
    tries: u32,
    /// Folder of another implementation to compare with; see the README
    #[arg(long, value_name = "DIR")]
    plain: Option<PathBuf>,
}

/// Database connections of each service.
const CONNECTIONS: &str = "4";
/// Time of a reservation in the database, in milliseconds.
const RESERVATION_MS: &str = "20";

/// Goal: least goodput at every multiple of the capacity, in percent of the peak.
const GOODPUT: f64 = 90.0;
/// Goal: longest time until the pair is normal again, in seconds.
const NORMAL_AFTER: f64 = 5.0;

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Runtime::new().expect("the operating system gives threads for the load's runtime");
    match runtime.block_on(measure(&args)) {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            for goal in missed {
                eprintln!("missed: {goal}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: &Args) -> anyhow::Result<Vec<String>> {
    let home = TemporaryDirectory::create_in(&std::env::temp_dir())?;
    let mut options = PostgresOptions::kept(home.path().join("postgres"));
    options.fsync = true;
    let postgres = Postgres::start(options).await?;
    println!(
        "| pair | offered | placed in time, of the peak | p50, p99 | 202 | refused | unknown | requests per order | normal again after | undecided at the end of the overload, after it |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");

    let mut missed = Vec::new();
    let programs = ["mainstay-order", "mainstay-inventory"];
    let further = [("DATABASE_CONNECTIONS", CONNECTIONS)];
    let ours = variant::ours(&postgres, "pair", programs, home.path(), &further).await?;
    slow(&ours).await?;
    let waiting = "SELECT count(*) FROM orders WHERE due_at IS NOT NULL AND status <> 'reserved'";
    let peak = peak(&ours).await?;
    for times in &args.times {
        let before = reserved(&ours).await?;
        let outcome = overload(args, &ours, waiting, peak, *times).await?;
        let after = reserved(&ours).await?;
        ensure!(
            after >= before + outcome.acknowledged,
            "{} orders were acknowledged, but the database has {}",
            outcome.acknowledged,
            after - before
        );
        print(&outcome, &ours, *times, peak);
        let share = 100.0 * outcome.overload.goodput / peak;
        if share < GOODPUT {
            missed.push(format!(
                "{share:.1} % of the peak at {times} times the capacity, less than {GOODPUT} %"
            ));
        }
        if outcome.normal_after.is_none_or(|after| after > NORMAL_AFTER) {
            missed.push(format!("not normal within {NORMAL_AFTER} s after {times} times the capacity"));
        }
        if outcome.undecided_after > 0 {
            missed.push(format!(
                "{} orders undecided after {times} times the capacity",
                outcome.undecided_after
            ));
        }
    }
    drop(ours);
    if let Some(folder) = &args.plain {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| home.path().join("target"), PathBuf::from);
        let program = variant::build(folder, &target)?;
        let further = [("POOL", CONNECTIONS), ("SLEEP_MS", RESERVATION_MS)];
        let plain = variant::plain(&postgres, folder, &program, &further).await?;
        let waiting = "SELECT count(*) FROM o.orders WHERE status = 'pending'";
        let peak = self::peak(&plain).await?;
        for times in &args.times {
            let outcome = overload(args, &plain, waiting, peak, *times).await?;
            print(&outcome, &plain, *times, peak);
        }
    }
    postgres.stop().await?;
    Ok(missed)
}

/// Makes every reservation take [`RESERVATION_MS`] in its transaction, so that it holds its locks and its connection.
async fn slow(ours: &Variant) -> anyhow::Result<()> {
    let mut inventory = PgConnection::connect(&ours.databases[1]).await?;
    let sql = format!(
        "CREATE FUNCTION slow_reservation() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep({RESERVATION_MS} / 1000.0); RETURN NULL; END $$;
         CREATE TRIGGER slow_reservation AFTER INSERT ON reservations FOR EACH ROW EXECUTE FUNCTION slow_reservation()"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut inventory).await.context("slowing reservations")?;
    Ok(inventory.close().await?)
}

/// Number of reserved orders. Fails if inventory does not have as many held reservations.
async fn reserved(ours: &Variant) -> anyhow::Result<i64> {
    let mut counts = [0; 2];
    for (count, (url, sql)) in counts.iter_mut().zip(ours.databases.iter().zip([
        "SELECT count(*) FROM orders WHERE status = 'reserved'",
        "SELECT count(*) FROM reservations WHERE status = 'held'",
    ])) {
        let mut connection = PgConnection::connect(url).await?;
        *count = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        connection.close().await?;
    }
    let [orders, holds] = counts;
    ensure!(orders == holds, "{orders} orders are reserved, but {holds} reservations are held");
    Ok(orders)
}

/// Peak rate of placed orders per second, in a closed loop of 16 connections: enough to keep the pair busy and no more.
async fn peak(variant: &Variant) -> anyhow::Result<f64> {
    let connections = 16;
    pair_benches::load::run(&variant.target, connections, Duration::from_secs(2)).await?;
    let outcome = pair_benches::load::run(&variant.target, connections, Duration::from_secs(5)).await?;
    Ok(outcome.orders_per_second)
}

struct Outcome {
    overload: Figures,
    /// Number of orders answered 201 in time.
    acknowledged: i64,
    normal_after: Option<f64>,
    undecided: i64,
    undecided_after: i64,
}

async fn overload(
    args: &Args,
    variant: &Variant,
    waiting: &'static str,
    peak: f64,
    times: f64,
) -> anyhow::Result<Outcome> {
    let phases = [
        Phase { rate: times * peak, seconds: args.seconds },
        Phase { rate: 0.5 * peak, seconds: args.after },
    ];
    let mut orders = PgConnection::connect(&variant.databases[0]).await?;
    let (records, undecided) = tokio::join!(load::run(&variant.target, &phases, args.tries), async {
        sleep(Duration::from_secs_f64(args.seconds)).await;
        sqlx::query_scalar(waiting).fetch_one(&mut orders).await
    });
    let records = records?;
    // Every client has its last answer. The service now decides the remaining orders by itself.
    let end = Instant::now() + Duration::from_secs(10);
    let undecided_after = loop {
        let undecided: i64 = sqlx::query_scalar(waiting).fetch_one(&mut orders).await?;
        if undecided == 0 || Instant::now() > end {
            break undecided;
        }
        sleep(Duration::from_millis(50)).await;
    };
    orders.close().await?;
    Ok(Outcome {
        overload: figures(&records, 0.0, phases[0]),
        acknowledged: i64::try_from(records.iter().filter(|record| record.end == End::Placed).count())?,
        normal_after: normal_after(&records, args.seconds, phases[1]),
        undecided: undecided?,
        undecided_after,
    })
}

fn print(outcome: &Outcome, variant: &Variant, times: f64, peak: f64) {
    let Figures { goodput, p50_ms, p99_ms, accepted, refused, unknown, unsent, attempts } = &outcome.overload;
    let normal =
        outcome.normal_after.map_or_else(|| "not within the run".to_owned(), |after| format!("{after:.1} s"));
    let unsent = if *unsent == 0 { String::new() } else { format!(", {unsent} not sent") };
    println!(
        "| {} | {times} × {peak:.0}/s{unsent} | {:.1} % | {p50_ms:.0} ms, {p99_ms:.0} ms | {accepted:.1} % | {refused:.1} % | {unknown:.1} % | {attempts:.2} | {normal} | {}, {} |",
        variant.name,
        100.0 * goodput / peak,
        outcome.undecided,
        outcome.undecided_after,
    );
}
