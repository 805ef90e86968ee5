//! The pair as a whole: PostgreSQL, both databases, migrations, tokens and both services are started in that order,
//! and stopped in the opposite order. `mainstay up`, the demo and the tests all start it here.

mod database;
mod error;
mod health;
mod options;
mod ready;
mod service;
mod tokens;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::child::{Child, Stopped};
use crate::postgres::DataLocation;
use crate::provision::DatabaseUrls;
use crate::{Service, TemporaryDirectory};

use database::DatabaseServer;
pub use error::PairError;
pub use options::{PairOptions, Ports, Programs, Server};
pub use ready::{Databases, Pids, Ready, ReadyTokens};
pub use tokens::{Token, Tokens};

/// Draws of random ports before a start fails. Another process may take a port between the draw and the service's
/// bind; three times in a row is no accident.
const PORT_DRAWS: u32 = 3;

/// A running pair. Dropping it stops everything in the background; [`RunningPair::stop`] waits.
#[derive(Debug)]
pub struct RunningPair {
    // Fields are dropped in this order: services first, then the server, then the directory.
    order: Child,
    inventory: Child,
    server: DatabaseServer,
    databases: PerService<DatabaseUrls>,
    ports: Ports,
    tokens: Tokens,
    home: Home,
    ready_within: Duration,
}

/// A value for each service.
#[derive(Debug, Clone, Copy)]
struct PerService<T> {
    order: T,
    inventory: T,
}

impl<T> PerService<T> {
    fn of(&self, service: Service) -> &T {
        match service {
            Service::Order => &self.order,
            Service::Inventory => &self.inventory,
        }
    }
}

/// The directory of the pair's files.
#[derive(Debug)]
enum Home {
    Kept(PathBuf),
    Temporary(TemporaryDirectory),
}

impl Home {
    fn prepare(location: &DataLocation) -> Result<Self, PairError> {
        match location {
            DataLocation::Kept(path) => {
                let path = std::path::absolute(path).map_err(PairError::io(path))?;
                std::fs::create_dir_all(&path).map_err(PairError::io(&path))?;
                Ok(Self::Kept(path))
            }
            DataLocation::TemporaryIn(parent) => {
                TemporaryDirectory::create_in(parent).map(Self::Temporary).map_err(PairError::io(parent))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

impl RunningPair {
    /// Starts everything and waits until both services are ready. If a later part fails, or the future is dropped,
    /// the parts that were started are stopped again.
    pub async fn start(options: PairOptions) -> Result<Self, PairError> {
        let home = Home::prepare(options.server.location())?;
        let path = home.path();
        let tokens = Tokens::prepare(&path.join("tokens"))?;
        let server = DatabaseServer::start(&options, path).await?;
        let databases = PerService {
            order: server.provision(Service::Order).await?,
            inventory: server.provision(Service::Inventory).await?,
        };
        tokio::try_join!(
            service::migrate(&options, Service::Order, &databases.order),
            service::migrate(&options, Service::Inventory, &databases.inventory),
        )?;
        let (ports, children) = start_services(&options, path, &tokens, &databases).await?;
        let PerService { order, inventory } = children;
        let ready_within = options.ready_within;
        Ok(Self { order, inventory, server, databases, ports, tokens, home, ready_within })
    }

    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// The URL of the public listener: `http://127.0.0.1:port`.
    pub fn url(&self, service: Service) -> String {
        format!("http://127.0.0.1:{}", self.ports.public(service))
    }

    /// The URL of the operations listener: `http://127.0.0.1:port`.
    pub fn ops_url(&self, service: Service) -> String {
        format!("http://127.0.0.1:{}", self.ports.ops(service))
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub fn database(&self, service: Service) -> &DatabaseUrls {
        self.databases.of(service)
    }

    /// The directory of logs, tokens and, when the server is private, PostgreSQL.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn log_file(&self, service: Service) -> PathBuf {
        service::log_file(self.home(), service)
    }

    /// The id of the process that runs a service; `None` while it is dead.
    pub fn pid(&self, service: Service) -> Option<u32> {
        self.child(service).pid()
    }

    /// Everything that a script needs to drive the pair, at this moment.
    pub fn ready(&self) -> Ready {
        Ready::of(self)
    }

    /// Sends SIGKILL to a service and returns when it is gone. [`PairOptions::restart`] decides whether it is started
    /// again.
    pub async fn kill(&self, service: Service) {
        self.child(service).kill().await;
    }

    /// Sends SIGTERM to a service, which drains and ends. It stays stopped until [`RunningPair::start_service`].
    pub async fn stop_service(&self, service: Service) -> Stopped {
        self.child(service).stop().await
    }

    /// Starts a dead service and waits until it is ready.
    pub async fn start_service(&self, service: Service) -> Result<(), PairError> {
        self.child(service).start().await;
        self.wait_until_ready(service).await
    }

    /// Waits until a service is ready, over any number of restarts.
    pub async fn wait_until_ready(&self, service: Service) -> Result<(), PairError> {
        let started = service::Started { service, ports: self.ports, log: self.log_file(service) };
        started.wait(self.child(service), self.ready_within, service::Death::MayBeFollowedByARestart).await
    }

    /// Connection options of the server's superuser; with [`Server::Given`], of the given role.
    pub fn admin(&self) -> &PgConnectOptions {
        self.server.admin()
    }

    /// Starts a private PostgreSQL that is dead, and waits until it answers.
    pub async fn start_postgres(&self) -> Result<(), PairError> {
        Ok(self.server.start_again().await?)
    }

    /// Sends SIGKILL to the private PostgreSQL; `false` when the server is not private or not running.
    pub async fn kill_postgres(&self) -> bool {
        self.server.kill().await
    }

    /// Waits until the private PostgreSQL has been started again after its death.
    pub async fn wait_for_postgres(&self) {
        self.server.wait_until_running().await;
    }

    /// Stops order, then inventory, then PostgreSQL, and removes a temporary directory. Returns how each service
    /// ended.
    pub async fn stop(self) -> Result<(Stopped, Stopped), PairError> {
        let order = self.order.stop().await;
        let inventory = self.inventory.stop().await;
        self.server.stop().await?;
        if let Home::Temporary(directory) = self.home {
            let path = directory.path().to_owned();
            directory.remove().await.map_err(PairError::io(&path))?;
        }
        Ok((order, inventory))
    }

    fn child(&self, service: Service) -> &Child {
        match service {
            Service::Order => &self.order,
            Service::Inventory => &self.inventory,
        }
    }
}

/// Starts both services and waits until both are ready. Ports that were drawn, not asked for, are drawn again when
/// another process took one.
async fn start_services(
    options: &PairOptions,
    home: &Path,
    tokens: &Tokens,
    databases: &PerService<DatabaseUrls>,
) -> Result<(Ports, PerService<Child>), PairError> {
    let mut draws = 0;
    loop {
        let ports = options.ports.map_or_else(Ports::draw, Ok).map_err(PairError::io(home))?;
        draws += 1;
        let launch = service::Launch { options, home, tokens, databases, ports };
        match tokio::try_join!(launch.start(Service::Order), launch.start(Service::Inventory)) {
            Ok((order, inventory)) => return Ok((ports, PerService { order, inventory })),
            Err(PairError::PortInUse { .. }) if options.ports.is_none() && draws < PORT_DRAWS => {}
            Err(error) => return Err(error),
        }
    }
}
