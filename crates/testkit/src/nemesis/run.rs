//! One schedule from its start to the verdict.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use checker::{AttemptBudget, Report, Rule};
use local::Service;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::faults::inflict;
use super::load::{Clients, STOCK};
use super::schedule::{Fault, Schedule, Settings};
use crate::in_time;
use crate::pair::{PairSetup, TestPair};

/// Within this everything is resolved once all faults have ended, on a busy machine too: twice the reconciler's own
/// lease (15 s), which is the longest that anything waits for somebody who died.
const RESOLVED: Duration = Duration::from_secs(30);

/// How a run went.
#[derive(Debug)]
pub struct Run {
    /// Requests that clients sent, repeats included.
    pub requests: usize,
    /// Of these, how many got no answer.
    pub unanswered: usize,
    /// Keys that were used.
    pub keys: usize,
    /// Journal entries of both services.
    pub entries: u64,
    /// From the end of the last fault until everything was answered and at rest.
    pub rest: Duration,
    /// What was wrong; `None` when nothing was.
    pub failure: Option<Failure>,
}

/// What a run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was broken; empty when the pair did not come to rest.
    pub rules: Vec<Rule>,
    /// The checker's report, or what never came.
    pub text: String,
}

impl Failure {
    fn of(text: String) -> Self {
        Self { rules: Vec::new(), text }
    }

    /// Whether the other may well have the same cause: a rule that both broke, or neither got as far as that.
    pub fn is_like(&self, other: &Self) -> bool {
        self.rules == other.rules || self.rules.iter().any(|rule| other.rules.contains(rule))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, unanswered, keys, entries, rest, failure } = self;
        write!(
            f,
            "{requests} requests ({unanswered} unanswered) for {keys} keys, {entries} journal entries, "
        )?;
        match failure {
            None => write!(f, "at rest after {:.1} s: sound", rest.as_secs_f64()),
            Some(Failure { rules, .. }) if rules.is_empty() => write!(f, "FAILED"),
            Some(Failure { rules, .. }) => write!(f, "BROKE {rules:?}"),
        }
    }
}

/// Runs a schedule over a pair of its own and judges what is left. When it fails, the services' logs are kept in
/// `evidence`.
///
/// # Errors
/// The pair could not be started, or a fault not be made: nothing is known of the pair then.
pub async fn run(setup: PairSetup, schedule: &Schedule, evidence: &Path) -> anyhow::Result<Run> {
    schedule.check()?;
    let settings = &schedule.settings;
    let pair = setup
        .replicas(settings.orders, settings.inventories)
        .own_postgres()
        .env(Service::Order, "HOLD_SECONDS", settings.hold_seconds.to_string())
        .budget(budget(schedule))
        .start()
        .await
        .context("starting the pair")?;
    for (sku, on_hand) in STOCK {
        pair.stock(sku, on_hand).await;
    }

    let start = Instant::now();
    let clients = Clients::of(&pair, settings);
    let working = async { Ok(clients.work(start + settings.length()).await) };
    let (wishes, ()) = tokio::try_join!(working, inflict(&pair, schedule, start))?;

    let healed = Instant::now();
    let came_to_rest = async {
        everybody_is_ready(&pair, settings).await?;
        clients.ask_again(&wishes, RESOLVED).await?;
        in_time("the pair comes to rest", RESOLVED, || is_at_rest(&pair)).await
    };
    let came_to_rest = came_to_rest.await;
    let rest = healed.elapsed();
    let report = pair.check(came_to_rest.is_ok()).await?;
    let strange = clients.strange();
    let mut failure = came_to_rest.err().map(Failure::of).or_else(|| broken(&report));
    if failure.is_none() && !strange.is_empty() {
        failure = Some(Failure::of(strange.join("\n")));
    }
    if failure.is_some() {
        keep_logs(&pair, evidence)?;
    }
    let requests = pair.requests().requests();
    let run = Run {
        requests: requests.len(),
        unanswered: requests.iter().filter(|request| request.reply.is_none()).count(),
        keys: wishes.iter().map(Vec::len).sum(),
        entries: report.entries,
        rest,
        failure,
    };
    // One that will not end in good order is a finding too, though the last one to look for.
    let ended = pair.end().await;
    let failure = run.failure.clone().or_else(|| ended.err().map(|error| Failure::of(format!("{error:#}"))));
    Ok(Run { failure, ..run })
}

/// What the processes may retry together: each has a budget of its own, and so has each that takes the place of one
/// that died.
fn budget(schedule: &Schedule) -> AttemptBudget {
    let of_order = |fault: &Fault| {
        matches!(
            fault,
            Fault::Kill { service: Service::Order, .. } | Fault::Leave { service: Service::Order, .. }
        )
    };
    let restarts = schedule.steps.iter().filter(|step| of_order(&step.fault)).count();
    let per = |count: usize, seconds: f64| u32::try_from(count).map_or(f64::MAX, f64::from) / seconds;
    let restarted = per(restarts, schedule.settings.length().as_secs_f64());
    AttemptBudget {
        floor_per_second: per(schedule.settings.orders, 1.0) + restarted,
        ..AttemptBudget::default()
    }
}

/// Every process that was started again is there. One that died by itself stays dead, and is a failure.
async fn everybody_is_ready(pair: &TestPair, settings: &Settings) -> Result<(), String> {
    for service in Service::BOTH {
        for replica in 0..settings.replicas(service) {
            let what = format!("{service} {replica} is ready");
            let ops = pair.ops(service, replica);
            in_time(&what, RESOLVED, || async {
                let reply = ops.get("/readyz").send().await?;
                anyhow::ensure!(reply.status.is_success(), "{reply}");
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

/// Nothing is in flight, and nothing will be within the minute: holds that are about to run out have done so.
async fn is_at_rest(pair: &TestPair) -> anyhow::Result<()> {
    pair.is_settled().await?;
    let mut order = PgConnection::connect_with(&pair.database(Service::Order).admin()).await?;
    let about_to = "SELECT count(*) FROM orders
                    WHERE status = 'reserved' AND expires_at < clock_timestamp() + interval '1 minute'";
    let about_to: i64 = sqlx::query_scalar(about_to).fetch_one(&mut order).await?;
    order.close().await?;
    anyhow::ensure!(about_to == 0, "{about_to} holds are about to run out");
    Ok(())
}

fn broken(report: &Report) -> Option<Failure> {
    let verdict = report.require(&[Rule::ChainVerifies, Rule::AcknowledgedSurvives]);
    verdict.err().map(|text| Failure { rules: report.broken().collect(), text })
}

fn keep_logs(pair: &TestPair, evidence: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(evidence).with_context(|| evidence.display().to_string())?;
    for file in std::fs::read_dir(pair.home())? {
        let file = file?.path();
        if let Some(name) = file.file_name()
            && file.extension().is_some_and(|extension| extension == "log")
        {
            std::fs::copy(&file, evidence.join(name))?;
        }
    }
    Ok(())
}
