//! Assembly of the inventory service, for the program and for tests.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;

use axum::Router;
use chassis::config::{ConfigProblems, Defaults};
use chassis::ops::{self, ChangeLog, Condition, Operations};
use chassis::program::Program;
use chassis::server::{BindError, Lifecycle, Limits, Listener, Served, Signals, bind};
use journal::{Database, Journal};
use mainstay::Registry;
use mainstay::fault::{Faults, ServerFault, ServerFaultLayer};
use sqlx::migrate::Migrator;
use tower::Layer;
use utoipa::OpenApi;

use crate::app::Inventory;
use crate::config::{Config, DEFAULTS, InventoryArgs};
use crate::http::{Api, Description};
use crate::{http, reconcile, store};

/// The inventory service as a program.
#[derive(Debug)]
pub struct Service;

impl Program for Service {
    const NAME: &'static str = "inventory";
    const COMMAND: &'static str = "mainstay-inventory";
    const ABOUT: &'static str =
        "Keeps the stock of each item, and holds it for orders until they are confirmed, released or expired";
    const DEFAULTS: Defaults = DEFAULTS;
    type Args = InventoryArgs;
    type Config = Config;
    type StartError = StartError;

    fn load(args: &InventoryArgs) -> Result<Config, ConfigProblems> {
        Config::load(args)
    }

    fn migrator() -> Migrator {
        migrator()
    }

    fn openapi() -> utoipa::openapi::OpenApi {
        Description::openapi()
    }

    async fn serve(config: Config, signals: Signals) -> Result<ExitCode, StartError> {
        Ok(build(config).await?.run(signals).await)
    }
}

/// Runs the program with the command line `args`; the first is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    chassis::program::run::<Service>(args)
}

/// The migrations to the schema that this release needs.
pub fn migrator() -> Migrator {
    journal::migrations::migrator(&store::MIGRATIONS)
}

/// Reason why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The middleware refused its settings.
    #[error("the middleware: {0}")]
    Middleware(#[from] mainstay::ConfigError),
}

/// An inventory service whose ports are open and which does not serve yet.
#[derive(Debug)]
pub struct Application {
    /// The use cases, for tests.
    pub inventory: Inventory,
    /// The lifecycle of the process, through which it is stopped.
    pub lifecycle: Lifecycle,
    public: Served<ServerFault<Router>>,
    operations: Served<Router>,
}

/// Assembles the service and opens its ports.
pub async fn build(config: Config) -> Result<Application, StartError> {
    let Config { common, hash } = config;
    let public = bind("LISTEN_ADDR", common.listen_addr).await?;
    let operations = bind("OPS_LISTEN_ADDR", common.ops_listen_addr).await?;
    let lifecycle = Lifecycle::new(common.shutdown_grace);
    let database = common.database();
    let faults = Faults::new(mainstay::random::Random::from_entropy());

    let journal = Journal::new(Service::NAME, chassis::config::REVISION, &hash);
    let inventory = Inventory::new(database.clone(), journal, http::replies::render);

    let server = mainstay::server::stack(common.server())?;
    let registry = Registry::default();
    registry.server("public", &server);
    let drain = server.drain().clone();
    lifecycle.on_stop(move || drain.start());
    let api = Api { inventory: inventory.clone(), tasks: lifecycle.tasks().clone() };
    let open = chassis::openapi::routes(&Description::openapi());
    let router = chassis::routes::finish(open, http::router(api), &common.tokens, &server);
    let public = Served {
        listener: public,
        service: ServerFaultLayer::new(&faults, "inventory-server").layer(router),
        limits: Limits { connections: common.max_connections, ..Limits::default() },
    };
    let changes = ChangeLog::none();
    let mut admin = Router::new()
        .merge(chassis::journal_feed::routes(Service::NAME, common.feed_database()))
        .merge(reconcile::admin::routes(inventory.clone()))
        .merge(reconcile::holders::routes(inventory.clone()))
        .merge(ops::limit_routes(registry.clone()))
        .merge(ops::breaker_routes(registry, changes.clone()));
    if common.faults_enabled {
        admin = admin.merge(ops::fault_routes(faults, changes));
    }
    let (own, watched) = (common.readiness_database(), inventory.clone());
    let readiness = move || readiness(own.clone(), watched.clone());
    let operations = Served {
        listener: operations,
        service: ops::router(Operations {
            lifecycle: lifecycle.clone(),
            tokens: common.tokens.clone(),
            readiness,
            admin,
        }),
        limits: Limits::operations(),
    };
    Ok(Application { inventory, lifecycle, public, operations })
}

/// Own database and schema decide. Holds that cannot be ended and unreadable rows are reported.
async fn readiness(own: Database, inventory: Inventory) -> Vec<Condition> {
    let mut conditions = chassis::schema::conditions(&own, inventory.database(), &migrator()).await;
    conditions.extend(inventory.conditions());
    conditions
}

impl Application {
    /// Address of the public API.
    pub fn address(&self) -> SocketAddr {
        Listener::address(&self.public.listener)
    }

    /// Address of the operations listener.
    pub fn ops_address(&self) -> SocketAddr {
        Listener::address(&self.operations.listener)
    }

    /// Serves until a signal or the lifecycle stops it.
    pub async fn run(self, signals: Signals) -> ExitCode {
        let tasks = self.lifecycle.tasks().clone();
        let inventory = self.inventory.clone();
        tasks.supervise("expiry", move |tasks| {
            let inventory = inventory.clone();
            async move { reconcile::run(inventory, tasks.stopping()).await }
        });
        chassis::retention::spawn(&tasks, self.inventory.database().clone());
        let ending = self.lifecycle.run(self.public, self.operations, signals).await;
        self.inventory.database().close();
        ending.into()
    }
}
