//! One run of a schedule, from the start of the pair to the checker's verdict.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use checker::{AttemptBudget, Report, Rule};
use local::Service;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::faults::apply_faults;
use super::load::{Clients, STOCK};
use super::schedule::{Fault, Schedule, Settings};
use crate::in_time;
use crate::pair::{PairSetup, TestPair};

/// Longest time after the last fault until all work is resolved, also on a busy machine.
///
/// It is twice the reconciler's lease of 15 s, because no work waits longer than one lease for a process that died.
const RESOLVED: Duration = Duration::from_secs(30);

/// Figures and verdict of a run.
#[derive(Debug)]
pub struct Run {
    /// Number of requests that clients sent, including repeats.
    pub requests: usize,
    /// Number of requests without a reply.
    pub unanswered: usize,
    /// Number of idempotency keys.
    pub keys: usize,
    /// Number of journal entries of both services.
    pub entries: u64,
    /// Time from the end of the last fault until every key had its final reply and the pair was at rest.
    pub rest: Duration,
    /// The failure, if the run failed.
    pub failure: Option<Failure>,
}

/// Failure of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Broken rules. Empty if the pair did not come to rest or gave an unexpected reply.
    pub rules: Vec<Rule>,
    /// Report of the checker, or the condition that did not hold in time.
    pub text: String,
}

impl Failure {
    fn of(text: String) -> Self {
        Self { rules: Vec::new(), text }
    }

    /// True if both failures probably have the same cause: both broke the same rule, or neither names a rule.
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
            None => write!(f, "at rest after {:.1} s: all rules hold", rest.as_secs_f64()),
            Some(Failure { rules, .. }) if rules.is_empty() => write!(f, "FAILED"),
            Some(Failure { rules, .. }) => write!(f, "FAILED: broken rules {rules:?}"),
        }
    }
}

/// Runs a schedule on a new pair and checks the result. After a failure, the logs of the services are copied to
/// `evidence`.
///
/// # Errors
/// If the pair does not start or a fault cannot be applied. Such a run says nothing about the pair.
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
    let (commands, ()) = tokio::try_join!(working, apply_faults(&pair, schedule, start))?;

    let healed = Instant::now();
    let came_to_rest = async {
        all_replicas_are_ready(&pair, settings).await?;
        clients.repeat_all(&commands, RESOLVED).await?;
        in_time("the pair comes to rest", RESOLVED, || is_at_rest(&pair)).await
    };
    let came_to_rest = came_to_rest.await;
    let rest = healed.elapsed();
    let report = pair.check(came_to_rest.is_ok()).await?;
    let unexpected = clients.unexpected();
    let mut failure = came_to_rest.err().map(Failure::of).or_else(|| broken(&report));
    if failure.is_none() && !unexpected.is_empty() {
        failure = Some(Failure::of(unexpected.join("\n")));
    }
    if failure.is_some() {
        keep_logs(&pair, evidence)?;
    }
    let requests = pair.requests().requests();
    let run = Run {
        requests: requests.len(),
        unanswered: requests.iter().filter(|request| request.reply.is_none()).count(),
        keys: commands.iter().map(Vec::len).sum(),
        entries: report.entries,
        rest,
        failure,
    };
    // A pair that does not shut down cleanly is a failure too, but an earlier failure explains more.
    let ended = pair.end().await;
    let failure = run.failure.clone().or_else(|| ended.err().map(|error| Failure::of(format!("{error:#}"))));
    Ok(Run { failure, ..run })
}

/// Retry budget of all order processes together. Each process has its own budget, and a restarted process has a new
/// one.
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

/// Waits until every replica is ready. A process that exited by itself stays dead and is a failure.
async fn all_replicas_are_ready(pair: &TestPair, settings: &Settings) -> Result<(), String> {
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

/// Checks that nothing is in flight and that no hold expires within the next minute.
async fn is_at_rest(pair: &TestPair) -> anyhow::Result<()> {
    pair.is_settled().await?;
    let mut order = PgConnection::connect_with(&pair.database(Service::Order).admin()).await?;
    let expiring = "SELECT count(*) FROM orders
                    WHERE status = 'reserved' AND expires_at < clock_timestamp() + interval '1 minute'";
    let expiring: i64 = sqlx::query_scalar(expiring).fetch_one(&mut order).await?;
    order.close().await?;
    anyhow::ensure!(expiring == 0, "{expiring} holds expire within a minute");
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
