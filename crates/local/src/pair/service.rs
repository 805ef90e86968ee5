//! One service of the pair: its migration, its environment and its start.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::{PairError, PairOptions, PerService, Ports, Tokens, health};
use crate::child::{Child, ChildSpec, OnEvent, State};
use crate::provision::DatabaseUrls;
use crate::{Service, ports};

/// The time between SIGTERM and SIGKILL. It is longer than a service's own shutdown (10 s), so that SIGKILL ends only
/// a service that hangs.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// The waits between two readiness checks. The service logs each check that fails, so the waits grow.
const FIRST_WAIT: Duration = Duration::from_millis(25);
const LONGEST_WAIT: Duration = Duration::from_millis(400);

/// The number of log lines that an error quotes.
const LINES_QUOTED: usize = 20;

pub(super) fn log_file(home: &Path, service: Service) -> PathBuf {
    home.join(format!("{service}.log"))
}

/// The folder of the service's events.
fn events_dir(home: &Path, service: Service) -> PathBuf {
    home.join("events").join(service.name())
}

/// Runs the service's `migrate` with the owner's URL, which the serving process never gets.
pub(super) async fn migrate(
    options: &PairOptions,
    service: Service,
    database: &DatabaseUrls,
) -> Result<(), PairError> {
    let (program, arguments) = options.programs.command(service);
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .arg("migrate")
        .env("MIGRATION_DATABASE_URL", &database.owner)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let within = options.ready_within;
    let output = timeout(within, command.output())
        .await
        .map_err(|_elapsed| PairError::MigrationTooSlow { service, within })?
        .map_err(|source| PairError::Program { program, source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(PairError::Migration { service, status: output.status, output: last_lines(&text) })
}

/// The inputs of both services' starts.
#[derive(Clone, Copy)]
pub(super) struct Launch<'a> {
    pub(super) options: &'a PairOptions,
    pub(super) home: &'a Path,
    pub(super) tokens: &'a Tokens,
    pub(super) databases: &'a PerService<DatabaseUrls>,
    pub(super) ports: Ports,
}

impl Launch<'_> {
    /// Starts a service and waits until it is ready. A death before that is this call's error and no event.
    pub(super) async fn start(self, service: Service) -> Result<Child, PairError> {
        let log = log_file(self.home, service);
        if log.exists() {
            let earlier = log.with_extension("log.1");
            std::fs::rename(&log, &earlier).map_err(PairError::io(&log))?;
        }
        let (program, arguments) = self.options.programs.command(service);
        let spec = ChildSpec {
            name: service.name(),
            program: program.clone(),
            arguments: arguments.iter().cloned().chain(["serve".into()]).collect(),
            environment: self.environment(service),
            log: log.clone(),
            restart: self.options.restart,
            stop_within: STOP_WITHIN,
        };
        let is_up = Arc::new(AtomicBool::new(false));
        let on_event: OnEvent = {
            let (is_up, on_event) = (Arc::clone(&is_up), Arc::clone(&self.options.on_event));
            Arc::new(move |event| {
                if is_up.load(Ordering::Relaxed) {
                    on_event(event);
                }
            })
        };
        let child = Child::spawn(spec, on_event).map_err(|source| PairError::Program { program, source })?;
        let started = Started { service, ports: self.ports, log };
        started.wait(&child, self.options.ready_within, Death::IsAnError).await?;
        is_up.store(true, Ordering::Relaxed);
        Ok(child)
    }

    fn environment(&self, service: Service) -> Vec<(OsString, OsString)> {
        let address = |port| OsString::from(format!("127.0.0.1:{port}"));
        let mut environment: Vec<(OsString, OsString)> = vec![
            ("DATABASE_URL".into(), self.databases.of(service).serving.clone().into()),
            ("LISTEN_ADDR".into(), address(self.ports.public(service))),
            ("OPS_LISTEN_ADDR".into(), address(self.ports.ops(service))),
            ("AUTH_TOKENS_FILE".into(), self.tokens.accepted_file(service).into()),
        ];
        environment.push(("EVIDENCE_DIR".into(), events_dir(self.home, service).into()));
        if service == Service::Order {
            let inventory = format!("http://127.0.0.1:{}", self.ports.inventory);
            environment.push(("INVENTORY_URL".into(), inventory.into()));
            environment.push(("INVENTORY_TOKEN_FILE".into(), self.tokens.order.file.clone().into()));
        }
        let ours = self.options.environment.iter().filter(|(whose, ..)| *whose == service);
        environment.extend(ours.map(|(_, name, value)| (name.clone(), value.clone())));
        environment
    }
}

/// The meaning of a death while a caller waits for readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    IsAnError,
    MayBeFollowedByARestart,
}

/// A service that was started and may not be ready yet.
pub(super) struct Started {
    pub(super) service: Service,
    pub(super) ports: Ports,
    pub(super) log: PathBuf,
}

impl Started {
    pub(super) async fn wait(&self, child: &Child, within: Duration, death: Death) -> Result<(), PairError> {
        let begun = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            let last = match child.state() {
                State::Dead { status } if death == Death::IsAnError => {
                    return Err(self.death(status.map_or_else(|| "killed".to_owned(), |s| s.to_string())));
                }
                State::Dead { .. } => "it is dead".to_owned(),
                State::Running { .. } => match health::ready(self.ports.ops(self.service)).await {
                    Ok(()) => return Ok(()),
                    Err(last) => last,
                },
            };
            if begun.elapsed() > within {
                return Err(PairError::NotReady {
                    service: self.service,
                    within,
                    last,
                    log: self.log_tail(),
                });
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// The error of a service that died. When another process listens on one of its ports, that is the reason.
    fn death(&self, status: String) -> PairError {
        let ports = [self.ports.public(self.service), self.ports.ops(self.service)];
        match ports.into_iter().find(|port| !ports::is_free(*port)) {
            Some(port) => PairError::PortInUse { port },
            None => PairError::Died { service: self.service, status, log: self.log_tail() },
        }
    }

    fn log_tail(&self) -> String {
        last_lines(&std::fs::read(&self.log).unwrap_or_default())
    }
}

fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<_> = text.trim_end().lines().rev().take(LINES_QUOTED).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
