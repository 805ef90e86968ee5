//! Assembly of the order service, for the program and for tests.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;

use axum::Router;
use chassis::clocks::Clocks;
use chassis::config::{ConfigProblems, Defaults};
use chassis::ops::{self, ChangeLog, Condition, Operations};
use chassis::program::Program;
use chassis::server::{BindError, Lifecycle, Limits, Listener, Served, Signals, bind};
use journal::{Database, Journal};
use mainstay::Registry;
use mainstay::client::{ClientConfig, HyperTransport, TransportConfig};
use mainstay::context::Priority;
use mainstay::fault::{Faults, ServerFault, ServerFaultLayer};
use sqlx::migrate::Migrator;
use tokio::sync::Notify;
use tower::Layer;
use utoipa::OpenApi;

use crate::app::{App, Parts};
use crate::clients::Inventory;
use crate::config::{Config, DEFAULTS, OrderArgs};
use crate::http::{Api, Description};
use crate::{http, reconcile, store};

/// The order service as a program.
#[derive(Debug)]
pub struct Service;

impl Program for Service {
    const NAME: &'static str = "order";
    const COMMAND: &'static str = "mainstay-order";
    const ABOUT: &'static str =
        "Accepts orders, has inventory hold their stock, and finishes whatever is interrupted";
    const DEFAULTS: Defaults = DEFAULTS;
    type Args = OrderArgs;
    type Config = Config;
    type StartError = StartError;

    fn load(args: &OrderArgs) -> Result<Config, ConfigProblems> {
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
    /// The token cannot be sent in a header.
    #[error("INVENTORY_TOKEN_FILE: the token cannot be sent in a header")]
    Token(#[from] ::http::header::InvalidHeaderValue),
}

/// An order service whose ports are open and which does not serve yet.
#[derive(Debug)]
pub struct Application {
    /// The use cases, for tests.
    pub app: App,
    /// The lifecycle of the process, through which it is stopped.
    pub lifecycle: Lifecycle,
    public: Served<ServerFault<Router>>,
    operations: Served<Router>,
}

/// Assembles the service and opens its ports.
pub async fn build(config: Config) -> Result<Application, StartError> {
    let Config { common, inventory_url, inventory_token, hold_seconds, hash } = config;
    let public = bind("LISTEN_ADDR", common.listen_addr).await?;
    let operations = bind("OPS_LISTEN_ADDR", common.ops_listen_addr).await?;
    let lifecycle = Lifecycle::new(common.shutdown_grace);
    let database = common.database();
    let faults = Faults::new(mainstay::random::Random::from_entropy());

    let client = ClientConfig {
        faults: common.faults_enabled.then(|| (faults.clone(), "inventory-client".to_owned())),
        ..ClientConfig::new("inventory")
    };
    let stack = mainstay::client::stack(client, HyperTransport::new(&TransportConfig::default()))?;
    let registry = Registry::default();
    registry.client(&stack);
    let breakers = stack.breakers().clone();
    let journal = Journal::new(Service::NAME, chassis::config::REVISION, &hash);
    let app = App::new(Parts {
        database: database.clone(),
        clocks: Clocks::new(&journal, "inventory"),
        journal,
        inventory: Inventory::new(stack, &inventory_url, inventory_token.expose())?,
        breakers,
        hold_seconds,
        nudge: Notify::new(),
    });

    // Critical priority is for calls that finish interrupted orders. Clients make no such calls.
    let server = mainstay::server::stack(common.server().priority_ceiling(|_| Priority::Default))?;
    registry.server("public", &server);
    let drain = server.drain().clone();
    lifecycle.on_stop(move || drain.start());
    let api = Api { app: app.clone(), tasks: lifecycle.tasks().clone() };
    let open = chassis::openapi::routes(&Description::openapi());
    let router = chassis::routes::finish(open, http::router(api), &common.tokens, &server);
    let public = Served {
        listener: public,
        service: ServerFaultLayer::new(&faults, "order-server").layer(router),
        limits: Limits { connections: common.max_connections, ..Limits::default() },
    };
    let changes = ChangeLog::none();
    let mut admin = Router::new()
        .merge(chassis::journal_feed::routes(Service::NAME, common.feed_database()))
        .merge(reconcile::admin::routes(app.clone(), lifecycle.tasks().clone()))
        .merge(reconcile::waiting::routes(app.clone()))
        .merge(ops::limit_routes(registry.clone()))
        .merge(ops::breaker_routes(registry, changes.clone()));
    if common.faults_enabled {
        admin = admin.merge(ops::fault_routes(faults, changes));
    }
    let (own, watched) = (common.readiness_database(), app.clone());
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
    Ok(Application { app, lifecycle, public, operations })
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
        reconcile::run(&self.app, &tasks);
        chassis::retention::spawn(&tasks, self.app.database.clone());
        let ending = self.lifecycle.run(self.public, self.operations, signals).await;
        self.app.database.close();
        ending.into()
    }
}

/// Own database and schema decide. Inventory, orders that wait, orders set apart and unreadable rows are reported.
async fn readiness(own: Database, app: App) -> Vec<Condition> {
    let mut conditions = chassis::schema::conditions(&own, &app.database, &migrator()).await;
    conditions.extend(app.breakers.list().into_iter().map(|breaker| {
        let state = breaker.state.as_str();
        let ok = state != "open" && state != "forced-open";
        Condition::reported("inventory", ok).detail(format!("breaker of {} is {state}", breaker.name))
    }));
    conditions.extend(app.conditions());
    conditions
}
