//! `mainstay status`: whether the pair runs and is ready, which conditions are not as they should be, and the next
//! command for each.

use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use futures_util::future::join_all;
use http::Method;
use local::Service;
use replay::Client;
use serde::{Deserialize, Serialize};

use super::next_step::{NextStep, ServiceAccess};
use crate::process::ProcessState;
use crate::screen::{is_harmless, print};
use crate::state::{Target, Which};

const LONG: &str = "\
Show where the pair listens, whether it is ready, and what is wrong

Every condition of either service that is not as it should be is named, with the next command to type: orders that \
wait too long, a breaker that is open or held open, a database that takes no writes. Both services are asked at the \
same time. A service that does not answer within 1.5 s is reported as missing, with the state of its process.";

/// Show where the pair listens, whether it is ready, and what is wrong
#[derive(Debug, Args)]
#[command(
    long_about = LONG,
    after_long_help = "Exit code 0 when both services are ready and every condition is as it should be, 1 otherwise."
)]
pub(super) struct Status {
    #[command(flatten)]
    which: Which,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    service: &'static str,
    url: String,
    operations: String,
    pid: Option<u32>,
    /// `ready`, `not-ready`, `shutting-down`, or the reason why no answer came.
    status: String,
    /// Conditions that the service checked: its database, its schema, its peer, its waiting orders.
    conditions: Vec<Shown>,
    /// The next step when the service does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<NextStep>,
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    condition: Condition,
    /// The next step when the condition is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<NextStep>,
}

impl Line {
    fn is_well(&self) -> bool {
        self.status == "ready" && self.conditions.iter().all(|shown| shown.condition.ok)
    }
}

/// The reply to `GET /readyz`.
#[derive(Debug, Deserialize)]
struct Report {
    status: String,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Condition {
    name: String,
    ok: bool,
    detail: Option<String>,
}

impl Status {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let target = self.which.find()?;
        let lines = join_all(Service::BOTH.map(|service| ask(&target, self.which, service))).await;
        let lines = lines.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        if self.json {
            print(&serde_json::to_string(&lines)?)?;
        } else {
            for line in &lines {
                print(&text(line))?;
            }
        }
        Ok(if lines.iter().all(Line::is_well) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn ask(target: &Target, which: Which, service: Service) -> anyhow::Result<Line> {
    let operations = target.urls.ops(service);
    let client = Client::for_reads(service.name(), operations, target.operator.as_ref())?;
    let access = ServiceAccess { which, service, urls: &target.urls, home: target.home() };
    let pid = target.pid(service);
    let reply = client.send(Method::GET, "/readyz", Bytes::new()).await;
    let report = reply.and_then(|reply| Ok(serde_json::from_slice(reply.body())?));
    let (Report { status, conditions }, next) = match report {
        Ok(report) => (report, None),
        Err(error) => {
            let process = pid.and_then(|pid| ProcessState::of(pid).map(|state| (pid, state)));
            let clause =
                process.map_or_else(String::new, |(pid, state)| format!("; {}", state.describe(pid)));
            let status = format!("no answer: {}{clause}", error.root_cause());
            (Report { status, conditions: Vec::new() }, Some(NextStep::without_answer(&access, process)))
        }
    };
    let conditions = conditions.into_iter().map(|condition| {
        let Condition { name, ok, detail } = &condition;
        let next =
            (!ok).then(|| NextStep::of_condition(&access, name, detail.as_deref().unwrap_or_default()));
        Shown { condition, next }
    });
    Ok(Line {
        service: service.name(),
        url: target.urls.public(service).to_owned(),
        operations: operations.to_owned(),
        pid,
        status,
        conditions: conditions.collect(),
        next,
    })
}

fn text(line: &Line) -> String {
    let process = line.pid.map_or_else(String::new, |pid| format!("process {pid}  "));
    let first = format!(
        "{:<10} {}  operations {}  {process}{}",
        line.service, line.url, line.operations, line.status
    );
    let mut lines = vec![first];
    let mut add = |line: &str| lines.push(format!("{:<10} {line}", ""));
    if let Some(next) = &line.next {
        add(&format!("next: {next}"));
    }
    for Shown { condition, next } in line.conditions.iter().filter(|shown| !shown.condition.ok) {
        add(&format!("{}: {}", condition.name, condition.detail.as_deref().unwrap_or("not as it should be")));
        if let Some(next) = next {
            add(&format!("  next: {next}"));
        }
    }
    lines.join("\n").replace(|c| c != '\n' && !is_harmless(c), "\u{fffd}")
}
