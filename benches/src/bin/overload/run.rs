//! The runs and their table.

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

/// Offers the pair several times what it can serve, from clients that try three times without waiting, then half of
/// what it can serve, and says how much succeeded and how soon all was well. Each service has 4 connections to its
/// database, and a reservation takes 20 ms there, so that two processors can offer ten times the capacity. Ends with 1
/// when a goal is missed.
#[derive(Parser, Debug)]
struct Args {
    /// Times the capacity that is offered
    #[arg(long, value_delimiter = ',', default_value = "2,10")]
    times: Vec<f64>,
    /// Seconds of overload
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds at half the capacity after it
    #[arg(long, default_value_t = 15.0)]
    after: f64,
    /// Tries of each client
    #[arg(long, default_value_t = 3)]
    tries: u32,
    /// Folder of another pair to measure beside ours; see the README
    #[arg(long, value_name = "DIR")]
    plain: Option<PathBuf>,
}

/// Connections of each service to its database.
const CONNECTIONS: &str = "4";
const RESERVATION_MS: &str = "20";

/// At least this much of the peak at any multiple, in percent.
const GOODPUT: f64 = 90.0;
/// Back to normal in at most this many seconds.
const NORMAL_AFTER: f64 = 5.0;

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime for the load");
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
        "| pair | offered | placed in time, of the peak | p50, p99 | 202 | refused | unknown | requests for each order | normal again after | undecided at the end of the overload, after it |"
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
        let seen = overload(args, &ours, waiting, peak, *times).await?;
        let after = reserved(&ours).await?;
        ensure!(
            after >= before + seen.told,
            "{} were told of an order, there are {}",
            seen.told,
            after - before
        );
        print(&seen, &ours, *times, peak);
        let share = 100.0 * seen.overload.goodput / peak;
        if share < GOODPUT {
            missed.push(format!("{share:.1} % of the peak at {times} times the capacity, not {GOODPUT}"));
        }
        if seen.normal_after.is_none_or(|after| after > NORMAL_AFTER) {
            missed.push(format!("not normal within {NORMAL_AFTER} s of {times} times the capacity"));
        }
        if seen.undecided_after > 0 {
            missed
                .push(format!("{} orders undecided after {times} times the capacity", seen.undecided_after));
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
            let seen = overload(args, &plain, waiting, peak, *times).await?;
            print(&seen, &plain, *times, peak);
        }
    }
    postgres.stop().await?;
    Ok(missed)
}

/// Makes every reservation take its time where it is written, with its locks held and its connection in use.
async fn slow(ours: &Variant) -> anyhow::Result<()> {
    let mut inventory = PgConnection::connect(&ours.databases[1]).await?;
    let sql = format!(
        "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep({RESERVATION_MS} / 1000.0); RETURN NULL; END $$;
         CREATE TRIGGER be_slow AFTER INSERT ON reservations FOR EACH ROW EXECUTE FUNCTION be_slow()"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut inventory).await.context("slowing reservations")?;
    Ok(inventory.close().await?)
}

/// Orders that are reserved, each with its hold at inventory.
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
    ensure!(orders == holds, "{orders} orders are reserved, and {holds} reservations held");
    Ok(orders)
}

/// The most that it places in a second: a closed loop of as many connections as keep it busy and no more.
async fn peak(variant: &Variant) -> anyhow::Result<f64> {
    let connections = 16;
    pair_benches::load::run(&variant.target, connections, Duration::from_secs(2)).await?;
    let seen = pair_benches::load::run(&variant.target, connections, Duration::from_secs(5)).await?;
    Ok(seen.orders_per_second)
}

struct Seen {
    overload: Figures,
    /// Clients that were told of an order in time.
    told: i64,
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
) -> anyhow::Result<Seen> {
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
    // The last clients have just been answered; what is undecided then is left to the service.
    let end = Instant::now() + Duration::from_secs(10);
    let undecided_after = loop {
        let undecided: i64 = sqlx::query_scalar(waiting).fetch_one(&mut orders).await?;
        if undecided == 0 || Instant::now() > end {
            break undecided;
        }
        sleep(Duration::from_millis(50)).await;
    };
    orders.close().await?;
    Ok(Seen {
        overload: figures(&records, 0.0, phases[0]),
        told: i64::try_from(records.iter().filter(|record| record.end == End::Placed).count())?,
        normal_after: normal_after(&records, args.seconds, phases[1]),
        undecided: undecided?,
        undecided_after,
    })
}

fn print(seen: &Seen, variant: &Variant, times: f64, peak: f64) {
    let Figures { goodput, p50_ms, p99_ms, taken_on, refused, unknown, unsent, attempts } = &seen.overload;
    let normal =
        seen.normal_after.map_or_else(|| "not in that time".to_owned(), |after| format!("{after:.1} s"));
    let unsent = if *unsent == 0 { String::new() } else { format!(", {unsent} not sent") };
    println!(
        "| {} | {times} × {peak:.0}/s{unsent} | {:.1} % | {p50_ms:.0} ms, {p99_ms:.0} ms | {taken_on:.1} % | {refused:.1} % | {unknown:.1} % | {attempts:.2} | {normal} | {}, {} |",
        variant.name,
        100.0 * goodput / peak,
        seen.undecided,
        seen.undecided_after,
    );
}
