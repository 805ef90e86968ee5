//! What a schedule is, and its file: one JSON object a line, the settings first and then the steps.
//!
//! A step is a fault with its own end, so that a schedule with any steps taken out is a schedule still: nothing is
//! healed that was not broken, and nothing stays broken.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use local::Service;
use serde::{Deserialize, Serialize};

use crate::proxy::{Cut, Direction, Ending, Point};

/// The first line: everything about a run but its faults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What the faults were drawn from, and the clients' wishes are.
    pub seed: u64,
    /// How long clients are at work. Every fault has ended by then.
    pub length_ms: u64,
    /// Processes of the order service.
    pub orders: usize,
    /// Processes of inventory.
    pub inventories: usize,
    /// How long stock is held for an order.
    pub hold_seconds: u64,
    /// Clients at once.
    pub clients: u64,
}

/// One fault: from when, for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// After the start.
    pub at_ms: u64,
    /// How long it lasts.
    pub for_ms: u64,
    /// What.
    #[serde(flatten)]
    pub fault: Fault,
}

/// Something that goes wrong, and is right again at the end of its step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// A process dies by SIGKILL, and is started again.
    Kill { service: Service, replica: usize },
    /// A process is told to end (SIGTERM), and joins again.
    Leave { service: Service, replica: usize },
    /// A process stands still (SIGSTOP), and goes on as if no time had passed.
    Pause { service: Service, replica: usize },
    /// PostgreSQL dies by SIGKILL, under both services, and is started again.
    KillPostgres,
    /// The network before a replica of inventory spoils calls whose path ends with `calls`.
    Hop {
        hop: usize,
        calls: String,
        #[serde(flatten)]
        spoils: OnHop,
    },
    /// The network between a service and its database.
    Network {
        service: Service,
        #[serde(flatten)]
        spoils: OnNetwork,
    },
}

/// What happens to every call that the fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "spoils", rename_all = "snake_case")]
pub enum OnHop {
    /// It arrives late, and so does its answer.
    Delay { request_ms: u64, reply_ms: u64 },
    /// It never arrives.
    LoseRequest { ending: Ending },
    /// It is carried out, and its answer lost.
    LoseReply { ending: Ending },
    /// It is carried out, and its answer breaks off.
    CutReply { after: usize, ending: Ending },
    /// It is carried out, and its answer is nonsense with this status.
    Nonsense { status: u16 },
    /// It arrives twice.
    Duplicate { at_once: bool },
    /// It, or its answer, waits until the fault ends: long after its sender has given up.
    Hold { point: Point },
    /// Connecting is refused, and what was connected is cut off.
    Refuse,
    /// When the fault ends, a call that was carried so many calls before arrives once more.
    Resend { back: usize },
}

/// What happens to the bytes between a service and its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "spoils", rename_all = "snake_case")]
pub enum OnNetwork {
    /// They arrive late, each way.
    Slow { ms: u64 },
    /// They wait until the fault ends.
    Freeze { direction: Direction },
    /// They are gone, and the connections that lost them stay silent.
    Blackhole { direction: Direction },
    /// Every connection is reset, and new ones are refused.
    Refuse,
    /// The connection of every COMMIT is cut: before it arrives, or before its answer does.
    CutCommits { cut: Cut },
    /// The connection that carries this byte of answers is cut after it.
    CutReplies { after: u64 },
}

/// What a fault befalls. One place has one fault at a time, so that the end of one is not the end of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A process.
    Process(Service, usize),
    /// PostgreSQL.
    Postgres,
    /// The network before a replica of inventory.
    Hop(usize),
    /// The network between a service and its database.
    Network(Service),
}

/// Settings and steps, in the order of their beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The first line.
    pub settings: Settings,
    /// The others.
    pub steps: Vec<Step>,
}

impl Settings {
    /// How long clients are at work.
    pub fn length(&self) -> Duration {
        Duration::from_millis(self.length_ms)
    }

    /// How many networks between the services are in use: each order process calls one replica of inventory.
    pub fn hops(&self) -> usize {
        self.orders.min(self.inventories)
    }

    /// How many processes a service has.
    pub fn replicas(&self, service: Service) -> usize {
        match service {
            Service::Order => self.orders,
            Service::Inventory => self.inventories,
        }
    }
}

impl Step {
    /// When it begins, after the start.
    pub fn at(&self) -> Duration {
        Duration::from_millis(self.at_ms)
    }

    /// When it ends, after the start.
    pub fn until(&self) -> Duration {
        Duration::from_millis(self.at_ms.saturating_add(self.for_ms))
    }
}

impl Fault {
    /// What it befalls.
    pub fn place(&self) -> Place {
        match *self {
            Self::Kill { service, replica }
            | Self::Leave { service, replica }
            | Self::Pause { service, replica } => Place::Process(service, replica),
            Self::KillPostgres => Place::Postgres,
            Self::Hop { hop, .. } => Place::Hop(hop),
            Self::Network { service, .. } => Place::Network(service),
        }
    }
}

impl Schedule {
    /// The same with other steps.
    #[must_use]
    pub fn with(&self, steps: Vec<Step>) -> Self {
        Self { settings: self.settings.clone(), steps }
    }

    /// The file: one JSON object a line.
    pub fn to_lines(&self) -> anyhow::Result<String> {
        let mut text = serde_json::to_string(&self.settings)?;
        for step in &self.steps {
            write!(text, "\n{}", serde_json::to_string(step)?)?;
        }
        Ok(text + "\n")
    }

    /// Reads a file, which somebody may have edited.
    pub fn from_lines(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, first) = lines.next().context("an empty file")?;
        let settings = serde_json::from_str(first).context("line 1: the settings")?;
        let step = |(n, line)| serde_json::from_str(line).with_context(|| format!("line {}: a step", n + 1));
        let schedule = Self { settings, steps: lines.map(step).collect::<anyhow::Result<_>>()? };
        schedule.check()?;
        Ok(schedule)
    }

    /// What [`crate::nemesis::run`] relies on: there is what is to be spoilt, every fault ends, and none begins where
    /// another still is.
    pub fn check(&self) -> anyhow::Result<()> {
        let settings = &self.settings;
        ensure!(settings.orders > 0 && settings.inventories > 0, "a service without a process");
        ensure!(settings.clients > 0, "nobody is at work");
        let mut free = std::collections::BTreeMap::new();
        let mut last = 0;
        for step in &self.steps {
            let line = serde_json::to_string(step)?;
            ensure!(step.until() <= settings.length(), "it lasts beyond the end: {line}");
            ensure!(last <= step.at_ms, "it begins before the one above it: {line}");
            last = step.at_ms;
            let place = step.fault.place();
            let is_there = match place {
                Place::Process(service, replica) => replica < settings.replicas(service),
                Place::Hop(hop) => hop < settings.hops(),
                Place::Postgres | Place::Network(_) => true,
            };
            ensure!(is_there, "there is no such place: {line}");
            let begins = free.insert(place, step.until()).is_none_or(|free| free <= step.at());
            ensure!(begins, "its place is not free yet: {line}");
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
    fn a_file_is_read_as_it_was_written() {
        let schedule = Schedule::from_lines(FILE).unwrap();
        assert_eq!(schedule.steps.len(), 4);
        assert_eq!(schedule.to_lines().unwrap(), FILE);
    }

    #[test]
    fn a_file_that_cannot_be_run_is_refused_with_the_line() {
        for (from, to, why) in [
            ("\"for_ms\":3000", "\"for_ms\":3001", "beyond the end"),
            ("\"replica\":1", "\"replica\":2", "no such place"),
            ("\"hop\":0", "\"hop\":1", "no such place"),
            ("\"at_ms\":1000", "\"at_ms\":10", "begins before"),
            ("\"fault\":\"kill\"", "\"fault\":\"bribe\"", "line 2"),
            ("\"orders\":2", "\"orders\":0", "without a process"),
            ("\"seed\":7", "\"seed\":\"x\"", "the settings"),
        ] {
            let error = Schedule::from_lines(&FILE.replace(from, to)).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{from} -> {to}: {error:#}");
        }
        let twice = FILE.replace("200,\"for_ms\":500", "200,\"for_ms\":101").replace(
            "{\"at_ms\":300",
            "{\"at_ms\":300,\"for_ms\":1,\"fault\":\"hop\",\"hop\":0,\"calls\":\"\",\"spoils\":\"refuse\"}\n{\"at_ms\":300",
        );
        assert!(Schedule::from_lines(&twice).unwrap_err().to_string().contains("not free yet"));
    }
}
