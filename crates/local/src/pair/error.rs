use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::{PostgresError, Service};

/// Reasons why the pair does not run. Each message is written for the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error("the given database server cannot be used: {0}")]
    GivenServer(sqlx::Error),
    #[error("setting up the {service} database failed: {source}")]
    Provision { service: Service, source: sqlx::Error },
    #[error("migrating the {service} database failed ({status}):\n{output}")]
    Migration { service: Service, status: ExitStatus, output: String },
    #[error("migrating the {service} database took longer than {within:?}")]
    MigrationTooSlow { service: Service, within: Duration },
    #[error(
        "port {port} on 127.0.0.1 is in use; stop the program that listens there or choose other ports with --port-base"
    )]
    PortInUse { port: u16 },
    #[error("{program} cannot be run: {source}", program = program.display())]
    Program { program: PathBuf, source: io::Error },
    #[error("{service} ended while starting ({status}). The end of its log:\n{log}")]
    Died { service: Service, status: String, log: String },
    #[error("{service} was not ready within {within:?} ({last}). The end of its log:\n{log}")]
    NotReady { service: Service, within: Duration, last: String, log: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl PairError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
