//! The demo: the whole pair on this machine, customers who keep ordering, and an inventory service that meanwhile
//! slows down, loses replies, dies and starts again. At the end both journals must agree.

mod ending;
mod narrator;
mod script;
mod story;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use local::child::Restart;
use local::pair::{PairOptions, Ports, Programs, RunningPair, Server};
use local::{ChildEvent, PostgresOptions, Service};
use replay::retail::{self, Ledger, Plan};
use replay::{Replay, RequestLog, Shop, Tally, parse_rate, progress, progress_line};
use tokio::sync::mpsc;
use tokio::time::interval;
use uuid::Uuid;

use crate::signals::End;
use crate::state::{DEFAULT_PORT_BASE, State};
use ending::Assessment;
use narrator::Narrator;
use script::{ACTS, Moments, Script, ScriptedKill};

const REDRAW_EVERY: Duration = Duration::from_millis(100);
/// The interval of progress lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Orders begun per second, unless the user asks for another rate: a load that two small cores carry easily.
const RATE: f64 = 40.0;
/// The lowest rate, for a short file.
const SLOWEST: f64 = 2.0;

/// Options of the demo.
#[derive(Debug, Args)]
#[command(next_help_heading = "Demo")]
pub(crate) struct Demo {
    /// Replay this CSV file with the columns of UCI's Online Retail [default: generated orders]
    #[arg(long, value_name = "CSV")]
    file: Option<PathBuf>,
    /// Orders begun per second, 0.1 to 2000 [default: 40, or fewer so that a short file lasts]
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Seed of the generated orders: the same seed gives the same orders
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "file")]
    seed: u64,
    /// Write the explained order's story as a swim-lane picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Leave the pair running afterwards, for `mainstay explain` and the others, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// With --keep: the first port of the pair
    #[arg(long, value_name = "N", requires = "keep", default_value_t = DEFAULT_PORT_BASE)]
    port_base: u16,
}

impl Demo {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let (ledger, rate) = self.orders()?;
        let plan = Arc::new(Plan::of(&ledger));
        let mut end = End::listen()?;
        let mut narrator = Narrator::new();
        narrator.plain(
            "Mainstay: an order service and an inventory service. Customers order, inventory fails in the middle of \
             it,\nand afterwards both journals must agree on every piece of stock. Ctrl-C ends it at any time.",
        )?;
        narrator.heading("1  Start: a private PostgreSQL, two databases, two services")?;
        let (events, mut deaths) = mpsc::unbounded_channel();
        let scripted_kill = ScriptedKill::default();
        let options = self.pair_options(events, scripted_kill.clone())?;
        let pair = tokio::select! {
            started = RunningPair::start(options) => {
                started.context("the pair cannot be started; `mainstay doctor` says what this machine lacks")?
            }
            name = end.next() => {
                narrator.at(&format!("{name} while starting: the started parts are stopped again"))?;
                return Ok(ExitCode::from(130));
            }
        };
        let played = tokio::select! {
            played = self.play(&pair, &ledger, plan, rate, scripted_kill, &mut narrator) => played,
            Some(event) = deaths.recv() => Err(unscripted_death(&pair, &event)),
            name = end.next() => {
                narrator.screen.clear()?;
                narrator.at(&format!("{name}: stopping both services and the database"))?;
                stop(pair, &mut end).await?;
                return Ok(ExitCode::from(130));
            }
        };
        if played.is_err() {
            narrator.screen.clear()?;
        }
        let assessment = match (played, self.keep) {
            (Ok(assessment), true) => {
                self.stay(&pair, &mut narrator, &mut end).await?;
                Ok(assessment)
            }
            (played, _) => played,
        };
        stop(pair, &mut end).await?;
        Ok(if assessment?.is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// The orders and their rate, chosen so that they last as long as the script.
    fn orders(&self) -> anyhow::Result<(Ledger, f64)> {
        let seconds = script::length().as_secs_f64();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 2,000 a second")]
        let lasting = |rate: f64| (rate * seconds) as usize;
        if self.file.is_none() {
            let rate = self.rate.unwrap_or(RATE);
            return Ok((retail::load(None, self.seed, lasting(rate))?, rate));
        }
        let most = lasting(self.rate.unwrap_or(RATE));
        let ledger = retail::load(self.file.as_deref(), self.seed, most)?;
        #[allow(clippy::cast_precision_loss, reason = "no file has 2^53 invoices")]
        let rate = self.rate.unwrap_or_else(|| (ledger.invoices.len() as f64 / seconds).clamp(SLOWEST, RATE));
        Ok((ledger, rate))
    }

    fn pair_options(
        &self,
        deaths: mpsc::UnboundedSender<ChildEvent>,
        scripted_kill: ScriptedKill,
    ) -> anyhow::Result<PairOptions> {
        let executable = std::env::current_exe().context("cannot find this program's own file")?;
        let server = Server::Private(PostgresOptions::temporary());
        let ports = if self.keep {
            Some(Ports::from_base(self.port_base).context("--port-base must be from 1 to 64534")?)
        } else {
            None
        };
        let options = PairOptions {
            ports,
            // A killed service stays dead until the script starts it again.
            restart: Restart::Never,
            on_event: Arc::new(move |event| {
                if !scripted_kill.covers(&event) {
                    let _receiver_is_gone_at_the_end = deaths.send(event);
                }
            }),
            ..PairOptions::new(Programs::mainstay(&executable), server)
        };
        Ok(options.env(Service::Order, "FAULTS_ENABLED", "true").env(
            Service::Inventory,
            "FAULTS_ENABLED",
            "true",
        ))
    }

    async fn play(
        &self,
        pair: &RunningPair,
        ledger: &Ledger,
        plan: Arc<Plan>,
        rate: f64,
        scripted_kill: ScriptedKill,
        narrator: &mut Narrator,
    ) -> anyhow::Result<Assessment> {
        let pid = |service| pair.pid(service).map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        narrator.at(&format!(
            "both are ready: order (process {}) at {}, inventory (process {}) at {}",
            pid(Service::Order),
            pair.url(Service::Order),
            pid(Service::Inventory),
            pair.url(Service::Inventory)
        ))?;
        let log = RequestLog::default();
        let tally = Arc::new(Tally::new(plan.actions.len(), ACTS.len()));
        let tokens = pair.tokens();
        let (order, inventory) = (pair.url(Service::Order), pair.url(Service::Inventory));
        let (client, operator) = (&tokens.client.secret, &tokens.operator.secret);
        let mut shop = Shop::new((&order, client), (&inventory, operator), Arc::clone(&tally))?;
        shop.log = Some(log.clone());
        let replay = Replay { shop, plan, rate, run: Uuid::new_v4() };

        narrator.heading("2  Stock and planned orders")?;
        let source =
            self.file.as_ref().map_or_else(|| "generated".to_owned(), |path| path.display().to_string());
        narrator.at(&format!("{source}: {}", replay.plan.summary(ledger)))?;
        let stocked = replay.stock().await?;
        narrator.at(&format!("{stocked}; a few SKUs will run out"))?;

        narrator.heading(&format!("3  Orders, {rate:.0} a second, while inventory fails"))?;
        let moments = perform(pair, &replay, scripted_kill, narrator).await?;

        narrator.heading("4  Is everything accounted for?")?;
        let asked = replay.ask_again(ending::ASKED_AGAIN).await?;
        narrator.at(&format!(
            "{asked} orders were placed again under their old keys, as an impatient client would"
        ))?;
        let assessment = ending::judge(pair, &log, &tally.counts(), &moments, narrator).await?;

        narrator.heading("5  One of those orders")?;
        let story = assessment.story(narrator.screen.width());
        narrator.plain(story.as_deref().unwrap_or("No order was affected: the faults ended too soon."))?;
        if let (Some(file), Some(picture)) = (&self.svg, assessment.picture()) {
            std::fs::write(file, picture).with_context(|| format!("{} cannot be written", file.display()))?;
            narrator.plain(&format!("\nThe same as a picture: {}", file.display()))?;
        }

        narrator.heading("6  Summary")?;
        narrator.plain(&assessment.summary(&tally.counts(), pair))?;
        let rows = ledger.account_of_rows(&source);
        if !rows.is_empty() {
            narrator.plain(&rows)?;
        }
        narrator.plain(ending::NEXT)?;
        Ok(assessment)
    }

    /// Leaves the pair running for other commands until a signal asks the demo to end.
    async fn stay(&self, pair: &RunningPair, narrator: &mut Narrator, end: &mut End) -> anyhow::Result<()> {
        State { up: std::process::id(), port_base: self.port_base, ready: pair.ready() }.write()?;
        narrator.plain(
            "\nThe pair stays up for other commands (mainstay explain, verify, replay) until Ctrl-C.",
        )?;
        end.next().await;
        State::remove(self.port_base)
    }
}

/// Runs orders and script at the same time and prints the events.
async fn perform(
    pair: &RunningPair,
    replay: &Replay,
    scripted_kill: ScriptedKill,
    narrator: &mut Narrator,
) -> anyhow::Result<Moments> {
    let tally = &replay.shop.tally;
    let (say, mut said) = mpsc::unbounded_channel();
    let script = Script::new(pair, Arc::clone(tally), say.clone(), scripted_kill)?;
    let mut watching = std::pin::pin!(watch::watch(pair, tally, &say)?);
    let mut playing = std::pin::pin!(script.play());
    let mut running = std::pin::pin!(replay.run());
    let (mut moments, mut is_over) = (None, false);
    let mut tick = interval(if narrator.screen.is_terminal() { REDRAW_EVERY } else { LINE_EVERY });
    tick.tick().await;
    loop {
        tokio::select! {
            biased;
            Some(line) = said.recv() => narrator.at(&line)?,
            played = &mut playing, if moments.is_none() => moments = Some(played?),
            done = &mut running, if !is_over => { done?; is_over = true; }
            () = &mut watching => {}
            _ = tick.tick() => {
                if narrator.screen.is_terminal() {
                    narrator.screen.show(tally.read(|counts| progress(counts, replay.rate, (tally.phase(), ACTS[tally.phase()]))))?;
                } else {
                    narrator.plain(&format!("        {}", tally.read(progress_line)))?;
                }
            }
        }
        if is_over && let Some(moments) = moments.take() {
            narrator.screen.clear()?;
            narrator.at("every order and every return has its final answer")?;
            return Ok(moments);
        }
    }
}

/// The error of a death that the script did not cause, with the end of the log.
fn unscripted_death(pair: &RunningPair, event: &ChildEvent) -> anyhow::Error {
    const LINES: usize = 20;
    let died = |service: &Service| matches!(event, ChildEvent::Died { name, .. } if *name == service.name());
    let log = Service::BOTH.into_iter().find(died).map(|service| pair.log_file(service));
    let log = log.and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
    let skipped = log.lines().count().saturating_sub(LINES);
    let tail: Vec<_> = log.lines().skip(skipped).collect();
    anyhow::anyhow!("a process died that the demo did not kill: {event}\n{}", tail.join("\n"))
}

async fn stop(pair: RunningPair, end: &mut End) -> anyhow::Result<()> {
    tokio::select! {
        stopped = pair.stop() => { stopped?; }
        // Dropping the pair stops everything too, without waiting.
        _ = end.next() => {}
    }
    Ok(())
}
