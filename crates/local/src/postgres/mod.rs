//! A private PostgreSQL server with its own directory, its own port on loopback and its own superuser password.
//!
//! ```no_run
//! # async fn example() -> Result<(), local::PostgresError> {
//! let postgres = local::Postgres::start(local::PostgresOptions::for_tests()).await?;
//! let url = postgres.url("postgres");
//! // …
//! postgres.stop().await
//! # }
//! ```

pub mod binaries;
mod cluster;
mod error;
mod options;

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use tokio::time::{Instant, sleep, timeout};

use crate::{Secret, TemporaryDirectory, account};
use cluster::Cluster;
pub use error::PostgresError;
pub use options::{DataLocation, PostgresOptions};

/// The name of the superuser of every private server.
pub const SUPERUSER: &str = "postgres";

/// The longest time for a shutdown. A fast shutdown writes a checkpoint, and the disk may be slow.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The interval of checks whether the server is ready or has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The longest time for one attempt at a first session. Another program may listen on the port and not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A running server. Dropping it shuts the server down and removes a temporary directory, without waiting;
/// [`Postgres::stop`] waits.
#[derive(Debug)]
pub struct Postgres {
    cluster: Cluster,
    // Dropped before `temporary`, whose removal waits for the end of the server.
    watcher: Child,
    temporary: Option<TemporaryDirectory>,
}

impl Postgres {
    /// Creates the cluster if its directory has none, starts the server, and waits until it answers a query.
    ///
    /// A directory whose last server crashed is recovered. If its last server is still shutting down, the start
    /// waits. When this future is dropped, the server is stopped.
    pub async fn start(options: PostgresOptions) -> Result<Self, PostgresError> {
        let temporary = options.temporary_parent().map(|parent| create_temporary(&parent)).transpose()?;
        let root = temporary.as_ref().map_or_else(|| options.kept_directory(), |t| t.path().to_owned());
        let mut cluster = Cluster::prepare(&root, &options).await?;
        let watcher = launch(&mut cluster, options.port.is_none()).await?;
        Ok(Self { cluster, watcher, temporary })
    }

    /// The superuser's URL of a database on this server, with the password.
    pub fn url(&self, database: &str) -> String {
        crate::provision::connection_url(&self.connect_options(database))
    }

    /// The superuser's connection options of a database on this server.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        self.cluster.connect_options(database)
    }

    pub fn port(&self) -> u16 {
        self.cluster.port
    }

    /// The server's process id, from its lock file.
    pub fn pid(&self) -> Option<u32> {
        self.cluster.server_pid()
    }

    /// The directory of the cluster, its log and its superuser's password.
    pub fn directory(&self) -> &Path {
        &self.cluster.directory
    }

    pub fn log_file(&self) -> PathBuf {
        self.cluster.log_file()
    }

    /// The server's exit status when it has ended: it was killed, or it crashed.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.watcher.try_wait().ok().flatten()
    }

    /// Sends SIGKILL, like a crash, and returns when the server is gone; `false` when it was gone before.
    pub async fn kill(&mut self) -> bool {
        let was_running = self.ended().is_none();
        while self.ended().is_none() {
            self.cluster.kill();
            sleep(LOOK_EVERY).await;
        }
        was_running
    }

    /// Starts an ended server again, on the same port and data. The server recovers from its write-ahead log.
    pub async fn start_again(&mut self) -> Result<(), PostgresError> {
        self.shut_down().await?;
        self.watcher = launch(&mut self.cluster, false).await?;
        Ok(())
    }

    /// Shuts the server down, open sessions included, and waits until it is gone, with its directory if that is
    /// temporary.
    pub async fn stop(mut self) -> Result<(), PostgresError> {
        let stopped = self.shut_down().await;
        if let Some(temporary) = self.temporary.take() {
            let path = temporary.path().to_owned();
            temporary.remove().await.map_err(PostgresError::io(&path))?;
        }
        stopped
    }

    async fn shut_down(&mut self) -> Result<(), PostgresError> {
        drop(self.watcher.stdin.take());
        let begun = Instant::now();
        while self.ended().is_none() {
            if begun.elapsed() > STOP_WITHIN {
                self.cluster.kill();
                return Err(PostgresError::NotStopped { within: STOP_WITHIN });
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

/// Checks that this process may run a server, itself or as the user `postgres`.
pub fn check_user() -> Result<(), PostgresError> {
    account::for_postgres().map(drop).map_err(|_no_such_user| PostgresError::NoUnprivilegedUser)
}

fn create_temporary(parent: &Path) -> Result<TemporaryDirectory, PostgresError> {
    TemporaryDirectory::create_in(parent).map_err(PostgresError::io(parent))
}

/// Starts the server after the last server on the same data has ended.
async fn launch(cluster: &mut Cluster, any_port: bool) -> Result<Child, PostgresError> {
    let begun = Instant::now();
    loop {
        cluster.wait_for_predecessor().await?;
        match start_and_wait(cluster).await {
            // The port was free a moment ago, and the caller asked for no particular port: draw another.
            Err(PostgresError::PortInUse { .. }) if any_port => cluster.draw_port()?,
            // Sessions of a server that was killed with -9 notice its end within moments. Until then they hold the
            // shared memory.
            Err(PostgresError::Died { log })
                if log.contains("pre-existing shared memory block")
                    && begun.elapsed() < cluster::PREDECESSOR_ENDS_WITHIN =>
            {
                sleep(LOOK_EVERY).await;
            }
            launched => return launched,
        }
    }
}

/// Starts the server and waits until it answers a query, dies, or the time is over. The returned process is the shell
/// that watches the server; its standard input keeps the server alive.
async fn start_and_wait(cluster: &Cluster) -> Result<Child, PostgresError> {
    let mut watcher = cluster.spawn_server()?;
    let begun = Instant::now();
    loop {
        if watcher.try_wait().map_err(PostgresError::io(&cluster.directory))?.is_some() {
            return Err(cluster.death());
        }
        let failure = match timeout(ANSWER_WITHIN, answers(cluster)).await {
            Ok(Ok(())) => return Ok(watcher),
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => "no reply to a query".to_owned(),
        };
        if begun.elapsed() > cluster.ready_within {
            let (within, log) = (cluster.ready_within, cluster.log_tail());
            return Err(PostgresError::NotReady { within, last: failure, log });
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Opens a real session with the password that only this server knows, so that another server on the same port is not
/// taken for it.
async fn answers(cluster: &Cluster) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(&cluster.connect_options("postgres")).await?;
    connection.ping().await?;
    connection.close().await
}

/// Connection options that depend only on the arguments: no `~/.pgpass`, and no TLS, which loopback does not need.
fn loopback(port: u16, user: &str, password: &Secret, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .ssl_mode(PgSslMode::Disable)
        .username(user)
        .password(password.expose())
        .database(database)
}
