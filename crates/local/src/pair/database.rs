//! The pair's database server: a private server, restarted when it dies, or a given server that this crate does not
//! own.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::{PairError, PairOptions, Server};
use crate::child::back_off::BackOff;
use crate::child::{ChildEvent, OnEvent, Restart};
use crate::postgres::DataLocation;
use crate::provision::{self, DatabaseUrls};
use crate::{Postgres, PostgresError, PostgresOptions, Service};

const NAME: &str = "postgres";

/// The interval of checks whether the server has died.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The longest time that a given server may take to accept a session.
const GIVEN_ANSWERS_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct DatabaseServer {
    admin: PgConnectOptions,
    private: Option<Private>,
}

#[derive(Debug)]
struct Private {
    orders: mpsc::Sender<Control>,
    pid: watch::Receiver<Option<u32>>,
}

#[derive(Debug)]
enum Control {
    Kill(oneshot::Sender<bool>),
    Start(oneshot::Sender<Result<(), PostgresError>>),
    Stop(oneshot::Sender<Result<(), PostgresError>>),
}

impl DatabaseServer {
    pub(super) async fn start(options: &PairOptions, home: &Path) -> Result<Self, PairError> {
        match &options.server {
            Server::Private(postgres) => {
                let location = DataLocation::Kept(home.to_owned());
                let postgres = Postgres::start(PostgresOptions { location, ..postgres.clone() }).await?;
                let admin = postgres.connect_options("postgres");
                let (orders, inbox) = mpsc::channel(4);
                let (pid, receiver) = watch::channel(postgres.pid());
                let on_event = OnEvent::clone(&options.on_event);
                let watch = Watch {
                    postgres,
                    restart: options.restart,
                    inbox,
                    on_event,
                    pid,
                    back_off: BackOff::default(),
                    since: Instant::now(),
                    is_dead: false,
                    restart_at: None,
                };
                tokio::spawn(watch.run());
                Ok(Self { admin, private: Some(Private { orders, pid: receiver }) })
            }
            Server::Given { admin_url, .. } => {
                let admin: PgConnectOptions = admin_url.expose().parse().map_err(PairError::GivenServer)?;
                let session = timeout(GIVEN_ANSWERS_WITHIN, PgConnection::connect_with(&admin)).await;
                let no_answer = |_elapsed| PairError::GivenServer(sqlx::Error::PoolTimedOut);
                session.map_err(no_answer)?.map_err(PairError::GivenServer)?;
                Ok(Self { admin, private: None })
            }
        }
    }

    pub(super) async fn provision(&self, service: Service) -> Result<DatabaseUrls, PairError> {
        let failed = |source| PairError::Provision { service, source };
        let passwords = provision::roles(&self.admin, service).await.map_err(failed)?;
        let name = service.serving_role();
        provision::database(&self.admin, service, name, &passwords).await.map_err(failed)
    }

    pub(super) fn admin(&self) -> &PgConnectOptions {
        &self.admin
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.private.as_ref().and_then(|private| *private.pid.borrow())
    }

    pub(super) async fn kill(&self) -> bool {
        let Some(private) = &self.private else { return false };
        let (done, answer) = oneshot::channel();
        private.orders.send(Control::Kill(done)).await.is_ok() && answer.await.unwrap_or(false)
    }

    /// Starts a private server that is dead. Has no effect on any other server.
    pub(super) async fn start_again(&self) -> Result<(), PostgresError> {
        let Some(private) = &self.private else { return Ok(()) };
        let (done, answer) = oneshot::channel();
        match private.orders.send(Control::Start(done)).await {
            Ok(()) => answer.await.unwrap_or(Ok(())),
            Err(_watch_ended) => Ok(()),
        }
    }

    /// Waits until a private server runs. Returns at once for a given server.
    pub(super) async fn wait_until_running(&self) {
        if let Some(private) = &self.private {
            let mut pid = private.pid.clone();
            let _watch_ended = pid.wait_for(Option::is_some).await;
        }
    }

    pub(super) async fn stop(self) -> Result<(), PostgresError> {
        let Some(private) = self.private else { return Ok(()) };
        let (done, answer) = oneshot::channel();
        match private.orders.send(Control::Stop(done)).await {
            Ok(()) => answer.await.unwrap_or(Ok(())),
            Err(_watch_ended) => Ok(()),
        }
    }
}

/// The task that owns a private server.
struct Watch {
    postgres: Postgres,
    restart: Restart,
    inbox: mpsc::Receiver<Control>,
    on_event: OnEvent,
    pid: watch::Sender<Option<u32>>,
    back_off: BackOff,
    since: Instant,
    is_dead: bool,
    /// The end of a dead server's back-off.
    restart_at: Option<Instant>,
}

impl Watch {
    async fn run(mut self) {
        loop {
            let next_look = Instant::now() + LOOK_EVERY;
            match timeout_at(next_look, self.inbox.recv()).await {
                Ok(Some(Control::Kill(done))) => {
                    let _caller_left = done.send(self.postgres.kill().await);
                }
                Ok(Some(Control::Start(done))) => {
                    let _caller_left = done.send(self.start_if_dead().await);
                }
                Ok(Some(Control::Stop(done))) => {
                    let _caller_left = done.send(self.postgres.stop().await);
                    return;
                }
                Ok(None) => return, // dropping the server shuts it down
                Err(_time_to_look) => {}
            }
            if !self.is_dead
                && let Some(status) = self.postgres.ended()
            {
                self.died(status);
            }
            if self.restart_at.is_some_and(|due| Instant::now() >= due)
                && let Err(error) = self.start_if_dead().await
            {
                let retry_in = self.plan_restart(Duration::ZERO);
                (self.on_event)(ChildEvent::NotStarted { name: NAME, error: error.to_string(), retry_in });
            }
        }
    }

    fn died(&mut self, status: ExitStatus) {
        self.is_dead = true;
        self.pid.send_replace(None);
        let restart_in = self.plan_restart(self.since.elapsed());
        (self.on_event)(ChildEvent::Died { name: NAME, status, restart_in });
    }

    async fn start_if_dead(&mut self) -> Result<(), PostgresError> {
        if self.postgres.ended().is_some() {
            self.postgres.start_again().await?;
            self.is_dead = false;
            self.restart_at = None;
            self.since = Instant::now();
            let pid = self.postgres.pid();
            self.pid.send_replace(pid);
            (self.on_event)(ChildEvent::Restarted { name: NAME, pid: pid.unwrap_or_default() });
        }
        Ok(())
    }

    fn plan_restart(&mut self, lived: Duration) -> Option<Duration> {
        let wait = match self.restart {
            Restart::WithBackOff => Some(self.back_off.after_death(lived)),
            Restart::Never => None,
        };
        self.restart_at = wait.map(|wait| Instant::now() + wait);
        wait
    }
}
