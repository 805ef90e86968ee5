//! `mainstay replay`: real or generated orders against a running pair, at a fixed rate.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use futures_util::future::join_all;
use http::Method;
use local::Service;
use tokio::time::{Instant, interval};
use uuid::Uuid;

use replay::retail::{self, Plan};
use replay::{
    Client, Counts, Outcome, Replay, Shop, Stocked, Tally, at_quantile, parse_rate, progress, progress_line,
};

use crate::process::ProcessState;
use crate::screen::{Screen, grouped};
use crate::signals::End;
use crate::state::{Target, Which};

/// The number of generated invoices, unless `--limit` gives another.
const GENERATED: usize = 400;
const REDRAW_EVERY: Duration = Duration::from_millis(100);
/// The interval of progress lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

const LONG: &str = "\
Replay orders against the running pair, from a file or generated

FILE has the columns of UCI's Online Retail, in any order: InvoiceNo, StockCode, Description, Quantity, InvoiceDate,
UnitPrice, CustomerID, Country. An invoice is an order; a SKU that it has twice is summed; a blank customer is \
`guest`. An invoice whose number begins with C is a return: it cancels this replay's unconfirmed order of that \
customer with those lines if there is one; otherwise the goods come back into stock.

A row is one line: a quoted field ends on the line it begins on. A row that cannot be read is refused with its line \
number, and the others are replayed. The table at the end counts every line of the file as header, empty, taken, left \
out or refused, by reason.

Items are stocked first, enough for most orders and not for all. Orders begin on an absolute schedule, \
whether or not earlier orders have ended; latencies count from when an order was due. Every POST has an idempotency key, and \
a request with an unknown outcome is sent again under the same key. A 202 is followed until it is decided.";

const EXAMPLES: &str = "\
Examples:
  mainstay replay                              400 generated orders, 20 a second
  mainstay replay online-retail.csv --rate 50  a file's invoices, 50 a second
  mainstay replay online-retail.csv --limit 200
  mainstay replay --seed 7 --limit 2000 --rate 100

Exit code 0 when every row was read and every order decided, 1 when orders were given up or items were not stocked,
3 when only rows of the file were refused, 130 when interrupted.";

/// The exit code when every order was decided and some rows of the file were refused.
const ROWS_REFUSED: u8 = 3;

/// Replay orders against the running pair, from a file or generated
#[derive(Debug, Args)]
#[command(long_about = LONG, after_long_help = EXAMPLES)]
pub(super) struct ReplayArgs {
    /// A CSV file with the columns of UCI's Online Retail [default: orders are generated]
    file: Option<PathBuf>,
    /// Orders begun per second, 0.1 to 2000
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = parse_rate)]
    rate: f64,
    /// The number of invoices to replay; later rows are not read
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Seed of the generated orders: the same seed gives the same orders
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "file")]
    seed: u64,
    #[command(flatten)]
    which: Which,
}

impl ReplayArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let limit =
            self.limit.map_or(if self.file.is_some() { usize::MAX } else { GENERATED }, |n| n as usize);
        let ledger = retail::load(self.file.as_deref(), self.seed, limit)?;
        let plan = Arc::new(Plan::of(&ledger));
        let target = self.which.find()?;
        let tally = Arc::new(Tally::new(plan.actions.len(), 1));
        let (urls, tokens) = (&target.urls, (target.client()?, target.operator()?));
        let shop = Shop::new((&urls.order, tokens.0), (&urls.inventory, tokens.1), Arc::clone(&tally))?;
        answers(&target).await?;

        let mut end = End::listen()?;
        let mut screen = Screen::open();
        let source =
            self.file.as_ref().map_or_else(|| "generated".to_owned(), |path| path.display().to_string());
        screen.say(&format!("{source}: {}", plan.summary(&ledger)))?;
        let replay = Replay { shop, plan, rate: self.rate, run: Uuid::new_v4() };
        let began = Instant::now();
        let interrupted = tokio::select! {
            done = watched(&replay, &mut screen) => Ok(done?),
            name = end.next() => Err(name),
        };
        screen.clear()?;
        let counts = tally.counts();
        screen.say(&summary(&counts, began.elapsed(), self.rate))?;
        let rows = ledger.account_of_rows(&source);
        if !rows.is_empty() {
            screen.say(&rows)?;
        }
        if let Some((order, _)) = counts.notable {
            screen.say(&format!("One of them in detail:  mainstay explain {order}"))?;
        }
        screen.say("Do both journals agree?   mainstay verify")?;
        match interrupted {
            Err(name) => {
                screen.say(&format!(
                    "{name}: the services finish by themselves the requests that they have begun."
                ))?;
                Ok(ExitCode::from(130))
            }
            Ok(stocked) if counts.of(Outcome::Failed) > 0 || stocked.refused > 0 => Ok(ExitCode::FAILURE),
            Ok(_) if ledger.issues.refused() > 0 => Ok(ExitCode::from(ROWS_REFUSED)),
            Ok(_) => Ok(ExitCode::SUCCESS),
        }
    }
}

/// Asks both services at the same time for one page, so that one clear error comes now instead of hundreds of
/// failures later.
async fn answers(target: &Target) -> anyhow::Result<()> {
    let pair = [
        (Service::Order, target.client()?, "/v1/orders?limit=1"),
        (Service::Inventory, target.operator()?, "/v1/items?limit=1"),
    ];
    let asked = pair.map(|(service, token, path)| async move {
        let client = Client::for_reads(service.name(), target.urls.public(service), Some(token))?;
        let reply = client.send(Method::GET, path, Bytes::new()).await.with_context(|| {
            let process =
                target.pid(service).and_then(|pid| ProcessState::of(pid).map(|state| state.describe(pid)));
            let process = process.map_or_else(String::new, |state| format!(" ({state})"));
            format!(
                "the {service} service does not answer at {}{process}; see `mainstay status`",
                target.urls.public(service)
            )
        })?;
        if !reply.status().is_success() {
            bail!("the {service} service refuses the token: {}", replay::refusal(&reply));
        }
        Ok(())
    });
    join_all(asked).await.into_iter().collect()
}

/// Stocks the items, replays the plan and shows the progress.
async fn watched(replay: &Replay, screen: &mut Screen) -> anyhow::Result<Stocked> {
    let stocked = replay.stock().await?;
    screen.say(&stocked.to_string())?;
    let tally = &replay.shop.tally;
    let mut run = std::pin::pin!(replay.run());
    let mut tick = interval(if screen.is_terminal() { REDRAW_EVERY } else { LINE_EVERY });
    tick.tick().await;
    loop {
        tokio::select! {
            done = &mut run => return done.map(|()| stocked),
            _ = tick.tick() => {
                let lines = tally.read(|counts| progress(counts, replay.rate, (0, "all")));
                if screen.is_terminal() {
                    screen.show(lines)?;
                } else {
                    screen.say(&tally.read(progress_line))?;
                }
            }
        }
    }
}

fn summary(counts: &Counts, took: Duration, rate: f64) -> String {
    let took = took.as_secs_f64();
    let mut lines = vec![format!("{} of {} begun in {took:.1} s", counts.begun, counts.planned)];
    for outcome in Outcome::ALL.into_iter().filter(|outcome| counts.of(*outcome) > 0) {
        lines.push(format!("  {:>8}  {}", grouped(counts.of(outcome)), outcome.as_str()));
    }
    let waits = &counts.phases[0];
    for (what, waits) in [("answered", &waits.answered), ("decided", &waits.decided)] {
        let at = |quantile| at_quantile(waits, quantile);
        lines.push(format!("  {what:<8}  p50 {}, p99 {}, longest {}", at(0.5), at(0.99), at(1.0)));
    }
    lines.push(format!(
        "  {} answers were 202, not decided yet; {} requests were sent again under their key, {} of them because \
         their effect was not known; {} were held back here, unsent, and tried later",
        grouped(counts.accepted),
        grouped(counts.repeated),
        grouped(counts.unknown),
        grouped(counts.held_back)
    ));
    if counts.late > Duration::from_millis(100) {
        let late = counts.late.as_secs_f64();
        lines.push(format!(
            "  this machine could not keep up {rate} a second: orders began up to {late:.1} s late"
        ));
    }
    lines.extend(counts.failures.iter().map(|failure| format!("  failed: {failure}")));
    lines.join("\n")
}
