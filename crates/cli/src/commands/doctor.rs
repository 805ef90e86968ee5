//! `mainstay doctor`: checks of this machine, each with the command that fixes what is missing.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use local::pair::Ports;
use local::postgres::{self, binaries};
use local::system::{self, System};
use local::{Postgres, PostgresOptions, disk, ports};
use serde::Serialize;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::screen::print;
use crate::state::{DEFAULT_PORT_BASE, State, other_base};

/// Free memory for a test run's databases, in bytes; with less, they go to disk, which is slower.
const ROOM_FOR_TESTS: u64 = 1 << 30;

/// Free disk space in bytes. A new cluster is 40 MB; a long replay with its write-ahead log takes some hundred MB.
const ROOM_FOR_DATA: u64 = 1 << 30;

/// Open files for one process. A service takes 1,024 connections, each with up to two files, and its own files.
const OPEN_FILES: u64 = 4_096;

/// The time limit for a docker command: a docker client hangs when its daemon hangs.
const DOCKER_WITHIN: Duration = Duration::from_secs(10);

/// Check what this machine lacks; each finding comes with the command that fixes it
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The ports that `mainstay up` is to use
    #[arg(long, value_name = "N", env = "MAINSTAY_PORT_BASE", default_value_t = DEFAULT_PORT_BASE)]
    port_base: u16,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    status: Status,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// `mainstay up` will not work without it.
    Missing,
    /// `mainstay up` works without it, with less: slower tests, no containers.
    Optional,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), mend: None }
    }

    fn missing(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, status: Status::Missing, found: found.into(), mend: Some(mend.into()) }
    }

    fn optional(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { status: Status::Optional, ..Self::missing(name, found, mend) }
    }
}

impl Doctor {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let system = System::detect();
        let asked = Ports::from_base(self.port_base).context("--port-base must be from 1 to 64534")?;
        let findings = [
            server_programs(system),
            server_starts().await,
            free_ports(asked, self.port_base),
            room("disk", &std::env::temp_dir(), ROOM_FOR_DATA, "TMPDIR=/somewhere/with/room mainstay up"),
            room(
                "memory for tests",
                Path::new("/dev/shm"),
                ROOM_FOR_TESTS,
                "sudo mount -o remount,size=2G /dev/shm",
            ),
            open_files(system::open_file_limit()),
            docker(system).await,
            compose(system).await,
        ];
        if self.json {
            print(&serde_json::to_string(&findings)?)?;
        }
        let works = findings.iter().all(|finding| finding.status != Status::Missing);
        if !self.json {
            let each: Vec<_> = findings.iter().map(text).collect();
            let end =
                if works { "`mainstay up` will work here." } else { "`mainstay up` will not work yet." };
            print(&format!("{}\n\n{end}", each.join("\n")))?;
        }
        Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn server_programs(system: System) -> Finding {
    const NAME: &str = "PostgreSQL";
    match binaries::find(None, None) {
        Ok(found) => Finding::ok(NAME, format!("version {} in {}", found.major, found.directory.display())),
        Err(_) => Finding::missing(NAME, "no server found (14 or newer)", system.install_postgres()),
    }
}

/// Starts a server and stops it again: the only proof that a server starts.
async fn server_starts() -> Finding {
    const NAME: &str = "PostgreSQL starts";
    if let Err(error) = postgres::check_user() {
        return Finding::missing(NAME, error.to_string(), "useradd --system postgres");
    }
    let begun = Instant::now();
    let options = PostgresOptions { max_connections: 10, ..PostgresOptions::temporary() };
    match Postgres::start(options).await {
        Ok(server) => {
            let took = begun.elapsed();
            match server.stop().await {
                Ok(()) => Finding::ok(NAME, format!("a new one answered after {:.1} s", took.as_secs_f64())),
                Err(error) => Finding::missing(NAME, error.to_string(), "mainstay doctor"),
            }
        }
        Err(error) => Finding::missing(NAME, error.to_string(), "see the message; then mainstay doctor"),
    }
}

fn free_ports(asked: Ports, base: u16) -> Finding {
    const NAME: &str = "ports";
    let list = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let taken: Vec<u16> = asked.all().into_iter().filter(|port| !ports::is_free(*port)).collect();
    if taken.is_empty() {
        return Finding::ok(NAME, format!("free on 127.0.0.1: {}", list(&asked.all())));
    }
    match State::read(base) {
        Some(state) => Finding::ok(NAME, format!("taken by the pair that runs here (process {})", state.up)),
        None => Finding::missing(
            NAME,
            format!("in use on 127.0.0.1: {}", list(&taken)),
            format!("mainstay up --port-base {}", other_base(base)),
        ),
    }
}

fn room(name: &'static str, path: &Path, needed: u64, mend: &str) -> Finding {
    let mebibytes = |bytes: u64| bytes >> 20;
    match disk::free_bytes(path) {
        Some(free) if free >= needed => {
            Finding::ok(name, format!("{} MiB free in {}", mebibytes(free), path.display()))
        }
        Some(free) => Finding::optional(
            name,
            format!("{} MiB free in {}, {} are better", mebibytes(free), path.display(), mebibytes(needed)),
            mend,
        ),
        None => Finding::optional(name, format!("no {}", path.display()), mend),
    }
}

fn open_files(limit: Option<u64>) -> Finding {
    const NAME: &str = "open files";
    match limit {
        Some(limit) if limit < OPEN_FILES => Finding::optional(
            NAME,
            format!("at most {limit}; many connections need more"),
            format!("ulimit -n {OPEN_FILES}"),
        ),
        Some(limit) => Finding::ok(NAME, format!("at most {limit}")),
        None => Finding::ok(NAME, "no limit"),
    }
}

async fn docker(system: System) -> Finding {
    const NAME: &str = "docker";
    match output_of("docker", &["version", "--format", "{{.Server.Version}}"]).await {
        Ok(version) => Finding::ok(NAME, format!("engine {version}")),
        Err(Failure::NotFound) => Finding::optional(NAME, "not installed", system.install_docker()),
        Err(Failure::Said(said)) if said.contains("permission denied") => {
            Finding::optional(NAME, said, "sudo usermod -aG docker $USER, and log in again")
        }
        Err(Failure::Said(said)) => Finding::optional(NAME, said, "sudo systemctl start docker"),
    }
}

async fn compose(system: System) -> Finding {
    const NAME: &str = "docker compose";
    let plugin = output_of("docker", &["compose", "version", "--short"]).await;
    let found = match plugin {
        Ok(version) => Ok(version),
        Err(_) => output_of("docker-compose", &["version", "--short"]).await,
    };
    match found {
        Ok(version) => Finding::ok(NAME, format!("version {version}")),
        Err(_) => Finding::optional(NAME, "not installed", system.install_docker()),
    }
}

enum Failure {
    NotFound,
    /// The last line of its standard error, or the timeout.
    Said(String),
}

async fn output_of(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let run = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = match timeout(DOCKER_WITHIN, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(_cannot_run)) => return Err(Failure::NotFound),
        Err(_elapsed) => return Err(Failure::Said(format!("no answer within {DOCKER_WITHIN:?}"))),
    };
    let last_line =
        |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().lines().last().unwrap_or_default().to_owned();
    let (said, complained) = (last_line(&output.stdout), last_line(&output.stderr));
    if output.status.success() && !said.is_empty() { Ok(said) } else { Err(Failure::Said(complained)) }
}

fn text(finding: &Finding) -> String {
    let status = match finding.status {
        Status::Ok => "ok",
        Status::Missing => "MISSING",
        Status::Optional => "optional",
    };
    let found = finding.found.replace('\n', "\n                             ");
    let mend = finding.mend.as_ref();
    let mend = mend.map_or_else(String::new, |mend| format!("\n{:<9} {:<18} fix it: {mend}", "", ""));
    format!("{status:<9} {:<18} {found}{mend}", finding.name)
}
