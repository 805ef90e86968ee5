//! Putting the parts together: the same for the binary and for tests.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use chassis::Secret;
use chassis::config::setting;
use chassis::ops::{self, ChangeLog, Condition, Operations};
use chassis::server::{BindError, Lifecycle, Limits, Listener, Served, Signals, bind};
use clap::{Parser, Subcommand};
use journal::database::Limits as DatabaseLimits;
use journal::{Database, Journal};
use mainstay::client::{ClientConfig, HyperTransport, TransportConfig};
use mainstay::context::Priority;
use mainstay::fault::{Faults, ServerFault, ServerFaultLayer};
use mainstay::server::ServerConfig;
use sqlx::migrate::Migrator;
use telemetry::TelemetryConfig;
use tokio::sync::Notify;
use tower::Layer;
use utoipa::OpenApi;

use crate::app::{App, Parts};
use crate::clients::Inventory;
use crate::config::{Config, OrderArgs};
use crate::http::{Api, Description};
use crate::{http, reconcile, store};

/// The service's name in logs, spans and the journal.
const SERVICE: &str = "order";

/// Accepts orders, has inventory hold their stock, and finishes whatever is interrupted.
#[derive(Parser, Debug)]
#[command(name = "mainstay-order", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    args: OrderArgs,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve the API (the default)
    Serve,
    /// Bring the database to this release's schema, as its owner
    Migrate {
        /// The service's own database, with the role that owns it
        #[arg(long, env = "MIGRATION_DATABASE_URL", hide_env_values = true, value_name = "URL")]
        migration_database_url: Option<Secret>,
    },
    /// Print the API's description (OpenAPI 3.1)
    Openapi,
    /// Ask the running service whether it is ready; for containers
    Healthcheck,
}

/// The whole program, as `args` say (the first is its own name).
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Cli { command, args } = Cli::parse_from(args);
    match command.unwrap_or(Command::Serve) {
        Command::Serve => match Config::load(&args) {
            Err(problems) => problems.exit(),
            Ok(_) if args.common.check_config => {
                println!("the configuration is valid");
                ExitCode::SUCCESS
            }
            Ok(config) => on_runtime(serve(config)),
        },
        Command::Migrate { migration_database_url } => {
            on_runtime(
                async move { chassis::migrate::run(&migrator(), migration_database_url.as_ref()).await },
            )
        }
        Command::Openapi => {
            print!("{}", chassis::openapi::json(&Description::openapi()));
            ExitCode::SUCCESS
        }
        Command::Healthcheck => healthcheck(&args),
    }
}

fn healthcheck(args: &OrderArgs) -> ExitCode {
    let address = args.common.ops_listen_addr.as_deref().unwrap_or(crate::config::DEFAULTS.ops_listen_addr);
    match setting::socket_addr(address) {
        Ok(address) => chassis::healthcheck::run(address),
        Err(why) => {
            eprintln!("OPS_LISTEN_ADDR: {why}");
            ExitCode::from(chassis::config::EXIT_CONFIG)
        }
    }
}

fn on_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            eprintln!("the runtime could not be started: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> ExitCode {
    let settings = TelemetryConfig {
        log_filter: config.common.log_filter.clone(),
        otlp_endpoint: config.common.otlp_endpoint.clone(),
        ..TelemetryConfig::new(SERVICE, env!("CARGO_PKG_VERSION"), chassis::config::REVISION)
    };
    // Held to the end: dropping it flushes what is still queued.
    let _telemetry = match telemetry::init(&settings) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let signals = match Signals::install(config.common.exit_with_stdin) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be handled");
            return ExitCode::FAILURE;
        }
    };
    match build(config).await {
        Ok(application) => application.run(signals).await,
        Err(error) => {
            tracing::error!(%error, "could not start");
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The schema this release needs.
pub fn migrator() -> Migrator {
    journal::migrations::migrator(&store::MIGRATIONS)
}

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The client stack refused its settings.
    #[error("the client of inventory: {0}")]
    Client(#[from] mainstay::client::ConfigError),
    /// The server stack refused its settings.
    #[error("the server: {0}")]
    Server(#[from] mainstay::server::ConfigError),
    /// The token cannot be sent in a header.
    #[error("INVENTORY_TOKEN_FILE: the token cannot be sent in a header")]
    Token(#[from] ::http::header::InvalidHeaderValue),
}

/// A service that is listening and not yet serving.
#[derive(Debug)]
pub struct Application {
    /// The use cases, for tests.
    pub app: App,
    /// The process's life; stop it here.
    pub lifecycle: Lifecycle,
    public: Served<ServerFault<Router>>,
    operations: Served<Router>,
}

/// Puts the service together and opens its ports.
pub async fn build(config: Config) -> Result<Application, StartError> {
    let Config { common, inventory_url, inventory_token, hold_seconds, hash } = config;
    let public = bind("LISTEN_ADDR", common.listen_addr).await?;
    let operations = bind("OPS_LISTEN_ADDR", common.ops_listen_addr).await?;
    let lifecycle = Lifecycle::new(common.shutdown_grace);
    let database = Database::new(common.database_url.expose().clone(), DatabaseLimits::default());
    let faults = Faults::new(mainstay::random::Random::from_entropy());

    let client = ClientConfig {
        faults: common.faults_enabled.then(|| (faults.clone(), "inventory-client".to_owned())),
        ..ClientConfig::new("inventory")
    };
    let stack = mainstay::client::stack(client, HyperTransport::new(&TransportConfig::default()))?;
    let breakers = stack.breakers().clone();
    let app = App::new(Parts {
        database: database.clone(),
        journal: Journal::new(SERVICE, chassis::config::REVISION, &hash),
        inventory: Inventory::new(stack, &inventory_url, inventory_token.expose())?,
        breakers: breakers.clone(),
        hold_seconds,
        nudge: Notify::new(),
    });

    let server = mainstay::server::stack(
        ServerConfig { route: Some(Arc::new(chassis::routes::matched)), ..ServerConfig::default() }
            // Only what resolves begun work is critical, and that does not come from clients.
            .priority_ceiling(|_| Priority::Default),
    )?;
    let drain = server.drain().clone();
    lifecycle.on_stop(move || drain.start());
    let api = Api { app: app.clone(), tasks: lifecycle.tasks().clone() };
    let router = http::router(api, &common.tokens).merge(chassis::openapi::routes(&Description::openapi()));
    let public = Served {
        listener: public,
        service: ServerFaultLayer::new(&faults, "order-server")
            .layer(chassis::routes::finish(router, &server)),
        limits: Limits { connections: common.max_connections, ..Limits::default() },
    };
    let changes = ChangeLog::none();
    let mut admin = Router::new()
        .merge(chassis::journal_feed::routes(SERVICE, database.clone()))
        .merge(reconcile::admin::routes(app.clone()))
        .merge(ops::breaker_routes(vec![breakers.clone()], changes.clone()));
    if common.faults_enabled {
        admin = admin.merge(ops::fault_routes(faults, changes));
    }
    let readiness = move || readiness(database.clone(), breakers.clone());
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
    /// Where the public API listens.
    pub fn address(&self) -> SocketAddr {
        Listener::address(&self.public.listener)
    }

    /// Where operations listen.
    pub fn ops_address(&self) -> SocketAddr {
        Listener::address(&self.operations.listener)
    }

    /// Serves until told to stop.
    pub async fn run(self, signals: Signals) -> ExitCode {
        let tasks = self.lifecycle.tasks().clone();
        let stopping = tasks.clone();
        let app = self.app.clone();
        drop(tasks.spawn(async move { reconcile::run(app, stopping.stopping()).await }));
        let ending = self.lifecycle.run(self.public, self.operations, signals).await;
        self.app.database.close();
        ending.into()
    }
}

/// Own database and schema decide; inventory is only reported.
async fn readiness(database: Database, breakers: mainstay::breaker::Breakers) -> Vec<Condition> {
    let mut conditions = chassis::schema::conditions(&database, chassis::migrate::newest(&migrator())).await;
    conditions.extend(breakers.list().into_iter().map(|breaker| {
        let state = breaker.state.as_str();
        let ok = state != "open" && state != "forced-open";
        Condition::reported("inventory", ok).detail(format!("breaker of {} is {state}", breaker.name))
    }));
    conditions
}
