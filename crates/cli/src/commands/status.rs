//! `mainstay status`: is the pair running, is it ready, what does it know of its peers?

use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use http::Method;
use local::Service;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::state::{Target, Which};

/// Show where the pair listens and whether it is ready (exit code 1 when it is not)
#[derive(Debug, Args)]
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
    /// `ready`, `not-ready`, `shutting-down`, or why nothing was answered.
    status: String,
    /// What the service looked at: its database, its schema, its peer.
    conditions: Vec<Condition>,
}

impl Line {
    fn is_ready(&self) -> bool {
        self.status == "ready"
    }
}

/// What `GET /readyz` answers.
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
        let mut lines = Vec::new();
        for service in Service::BOTH {
            lines.push(look(&target, service).await?);
        }
        if self.json {
            println!("{}", serde_json::to_string(&lines)?);
        } else {
            lines.iter().for_each(print);
        }
        Ok(if lines.iter().all(Line::is_ready) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn look(target: &Target, service: Service) -> anyhow::Result<Line> {
    let operations = target.urls.ops(service);
    let client = Client::new(service.name(), operations, target.operator.as_ref())?;
    let reply = client.send(Method::GET, "/readyz", Bytes::new()).await;
    let report = reply.and_then(|reply| Ok(serde_json::from_slice(reply.body())?));
    let Report { status, conditions } = report.unwrap_or_else(|error: anyhow::Error| Report {
        status: format!("no answer: {}", error.root_cause()),
        conditions: Vec::new(),
    });
    let pids = target.state.as_ref().map(|state| state.ready.pids);
    let pid = pids.and_then(|pids| match service {
        Service::Order => pids.order,
        Service::Inventory => pids.inventory,
    });
    let (url, operations) = (target.urls.public(service).to_owned(), operations.to_owned());
    Ok(Line { service: service.name(), url, operations, pid, status, conditions })
}

fn print(line: &Line) {
    let process = line.pid.map_or_else(String::new, |pid| format!("process {pid}  "));
    println!("{:<10} {}  operations {}  {process}{}", line.service, line.url, line.operations, line.status);
    for condition in line.conditions.iter().filter(|condition| !condition.ok) {
        println!(
            "{:<10} {}: {}",
            "",
            condition.name,
            condition.detail.as_deref().unwrap_or("not as it should be")
        );
    }
}
