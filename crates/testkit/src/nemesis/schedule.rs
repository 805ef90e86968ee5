//! Schedules of faults and their file format: one JSON object per line, first the settings and then the steps.
//!
//! A step contains both the start and the end of its fault. So a schedule from which steps are removed is still valid:
//! every fault that starts also ends.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use local::Service;
use serde::{Deserialize, Serialize};

use crate::proxy::{Cut, Direction, Ending, Point};

/// Settings of a run, without its faults. They are the first line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Seed of the faults and of the client commands.
    pub seed: u64,
    /// Length of the load in milliseconds. Every fault ends within it.
    pub length_ms: u64,
    /// Number of order processes.
    pub orders: usize,
    /// Number of inventory processes.
    pub inventories: usize,
    /// Time in seconds for which inventory holds stock for an order.
    pub hold_seconds: u64,
    /// Number of concurrent clients.
    pub clients: u64,
}

/// A fault with its start and its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Start of the fault, in milliseconds after the start of the load.
    pub at_ms: u64,
    /// Length of the fault in milliseconds.
    pub for_ms: u64,
    /// The fault.
    #[serde(flatten)]
    pub fault: Fault,
}

/// A fault, which is undone at the end of its step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// A process is killed with SIGKILL and restarted.
    Kill { service: Service, replica: usize },
    /// A process is stopped with SIGTERM and restarted.
    Leave { service: Service, replica: usize },
    /// A process is paused with SIGSTOP and resumed.
    Pause { service: Service, replica: usize },
    /// The PostgreSQL of both services is killed with SIGKILL and restarted.
    KillPostgres,
    /// The network in front of an inventory replica damages the calls whose path ends with `calls`.
    Hop {
        hop: usize,
        calls: String,
        #[serde(flatten)]
        spoils: OnHop,
    },
    /// The network between a service and its database fails.
    Network {
        service: Service,
        #[serde(flatten)]
        spoils: OnNetwork,
    },
}

/// Effect of a fault on each matching call between the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "spoils", rename_all = "snake_case")]
pub enum OnHop {
    /// Request and reply arrive late.
    Delay { request_ms: u64, reply_ms: u64 },
    /// The request does not arrive.
    LoseRequest { ending: Ending },
    /// The call is executed and the reply is lost.
    LoseReply { ending: Ending },
    /// The call is executed and the reply is cut off after some bytes.
    CutReply { after: usize, ending: Ending },
    /// The call is executed and the reply has this status and a malformed body.
    Nonsense { status: u16 },
    /// The request arrives twice.
    Duplicate { at_once: bool },
    /// The request or the reply is held until the fault ends, possibly long after the caller's timeout.
    Hold { point: Point },
    /// New connections are refused and open ones are reset.
    Refuse,
    /// When the fault ends, an old call arrives again: the matching call that came `back` calls before the latest one.
    Resend { back: usize },
}

/// Effect of a fault on the bytes between a service and its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "spoils", rename_all = "snake_case")]
pub enum OnNetwork {
    /// The bytes arrive late in both directions.
    Slow { ms: u64 },
    /// The bytes wait until the fault ends.
    Freeze { direction: Direction },
    /// The bytes are lost, and connections that lost bytes stay silent afterwards.
    Blackhole { direction: Direction },
    /// Open connections are reset and new ones are refused.
    Refuse,
    /// The connection of every COMMIT is cut, before the COMMIT arrives or before its reply does.
    CutCommits { cut: Cut },
    /// The connection that carries the reply byte with this number is cut after it.
    CutReplies { after: u64 },
}

/// The part of the pair that a fault affects.
///
/// A target has at most one fault at a time, so that the end of one fault does not end another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A process of a service.
    Process(Service, usize),
    /// The PostgreSQL cluster.
    Postgres,
    /// The network in front of an inventory replica.
    Hop(usize),
    /// The network between a service and its database.
    Network(Service),
}

/// Settings and steps of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The settings.
    pub settings: Settings,
    /// The steps, ordered by their start.
    pub steps: Vec<Step>,
}

impl Settings {
    /// Length of the load.
    pub fn length(&self) -> Duration {
        Duration::from_millis(self.length_ms)
    }

    /// Number of networks in use between the services. Each order process calls one inventory replica.
    pub fn hops(&self) -> usize {
        self.orders.min(self.inventories)
    }

    /// Number of processes of a service.
    pub fn replicas(&self, service: Service) -> usize {
        match service {
            Service::Order => self.orders,
            Service::Inventory => self.inventories,
        }
    }
}

impl Step {
    /// Start of the fault, counted from the start of the load.
    pub fn at(&self) -> Duration {
        Duration::from_millis(self.at_ms)
    }

    /// End of the fault, counted from the start of the load.
    pub fn until(&self) -> Duration {
        Duration::from_millis(self.at_ms.saturating_add(self.for_ms))
    }
}

impl Fault {
    /// The target of the fault.
    pub fn target(&self) -> Target {
        match *self {
            Self::Kill { service, replica }
            | Self::Leave { service, replica }
            | Self::Pause { service, replica } => Target::Process(service, replica),
            Self::KillPostgres => Target::Postgres,
            Self::Hop { hop, .. } => Target::Hop(hop),
            Self::Network { service, .. } => Target::Network(service),
        }
    }
}

impl Schedule {
    /// A schedule with the same settings and other steps.
    #[must_use]
    pub fn with(&self, steps: Vec<Step>) -> Self {
        Self { settings: self.settings.clone(), steps }
    }

    /// The text of the schedule's file: one JSON object per line.
    pub fn to_lines(&self) -> anyhow::Result<String> {
        let mut text = serde_json::to_string(&self.settings)?;
        for step in &self.steps {
            write!(text, "\n{}", serde_json::to_string(step)?)?;
        }
        Ok(text + "\n")
    }

    /// Reads and checks the text of a file, which may have been edited by hand.
    pub fn from_lines(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, first) = lines.next().context("the file is empty")?;
        let settings = serde_json::from_str(first).context("line 1: invalid settings")?;
        let step =
            |(n, line)| serde_json::from_str(line).with_context(|| format!("line {}: invalid step", n + 1));
        let schedule = Self { settings, steps: lines.map(step).collect::<anyhow::Result<_>>()? };
        schedule.check()?;
        Ok(schedule)
    }

    /// Checks the conditions of [`crate::nemesis::run`]: every target exists, every fault ends before the load does,
    /// steps are ordered by their start, and faults at one target do not overlap.
    pub fn check(&self) -> anyhow::Result<()> {
        let settings = &self.settings;
        ensure!(settings.orders > 0 && settings.inventories > 0, "a service needs at least one process");
        ensure!(settings.clients > 0, "at least one client is needed");
        let mut free = std::collections::BTreeMap::new();
        let mut last = 0;
        for step in &self.steps {
            let line = serde_json::to_string(step)?;
            ensure!(step.until() <= settings.length(), "the fault ends after the load: {line}");
            ensure!(last <= step.at_ms, "the step starts before the step above it: {line}");
            last = step.at_ms;
            let target = step.fault.target();
            let exists = match target {
                Target::Process(service, replica) => replica < settings.replicas(service),
                Target::Hop(hop) => hop < settings.hops(),
                Target::Postgres | Target::Network(_) => true,
            };
            ensure!(exists, "the target does not exist: {line}");
            let is_free = free.insert(target, step.until()).is_none_or(|free| free <= step.at());
            ensure!(is_free, "the target still has another fault: {line}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"seed":7,"length_ms":4000,"orders":2,"inventories":1,"hold_seconds":900,"clients":4}
{"at_ms":100,"for_ms":900,"fault":"kill","service":"order","replica":1}
{"at_ms":200,"for_ms":500,"fault":"hop","hop":0,"calls":"/reservations","spoils":"lose_reply","ending":"reset"}
{"at_ms":300,"for_ms":9,"fault":"network","service":"inventory","spoils":"cut_commits","cut":"before_reply"}
{"at_ms":1000,"for_ms":3000,"fault":"kill_postgres"}
"#;

    #[test]
    fn a_schedule_read_from_a_file_writes_the_same_file() {
        let schedule = Schedule::from_lines(FILE).unwrap();
        assert_eq!(schedule.steps.len(), 4);
        assert_eq!(schedule.to_lines().unwrap(), FILE);
    }

    #[test]
    fn an_invalid_file_is_refused_and_the_error_names_the_line() {
        for (from, to, why) in [
            ("\"for_ms\":3000", "\"for_ms\":3001", "ends after the load"),
            ("\"replica\":1", "\"replica\":2", "does not exist"),
            ("\"hop\":0", "\"hop\":1", "does not exist"),
            ("\"at_ms\":1000", "\"at_ms\":10", "starts before"),
            ("\"fault\":\"kill\"", "\"fault\":\"bribe\"", "line 2"),
            ("\"orders\":2", "\"orders\":0", "at least one process"),
            ("\"seed\":7", "\"seed\":\"x\"", "invalid settings"),
        ] {
            let error = Schedule::from_lines(&FILE.replace(from, to)).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{from} -> {to}: {error:#}");
        }
        let twice = FILE.replace("200,\"for_ms\":500", "200,\"for_ms\":101").replace(
            "{\"at_ms\":300",
            "{\"at_ms\":300,\"for_ms\":1,\"fault\":\"hop\",\"hop\":0,\"calls\":\"\",\"spoils\":\"refuse\"}\n{\"at_ms\":300",
        );
        assert!(Schedule::from_lines(&twice).unwrap_err().to_string().contains("still has another fault"));
    }
}
