//! A service as a program: subcommands, logs, start and end. Every service has the same ones.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use telemetry::TelemetryConfig;

use crate::config::{ConfigProblems, Defaults, EXIT_CONFIG, ProcessArgs, ProcessConfig, REVISION, setting};
use crate::server::{Serves, Signals};
use crate::{Application, StartError, healthcheck};

/// A service as a program.
pub trait Program {
    /// Name in logs, spans and the journal.
    const NAME: &'static str;
    /// Name as a command.
    const COMMAND: &'static str;
    /// Purpose, in one sentence.
    const ABOUT: &'static str;
    /// Default addresses of the two listeners.
    const DEFAULTS: Defaults;
    /// Settings as text, from the command line and the environment.
    type Args: clap::Args + AsRef<ProcessArgs>;
    /// Checked settings.
    type Config: AsRef<ProcessConfig>;

    /// Reads and checks the settings. The error lists every fault.
    fn load(args: &Self::Args) -> Result<Self::Config, ConfigProblems>;

    /// Assembles the service and opens its ports.
    fn build(config: Self::Config) -> impl Future<Output = Result<Application<impl Serves>, StartError>>;

    /// Migrations to the schema that this release needs; `None` for a service without a database.
    #[cfg(feature = "database")]
    fn migrator() -> Option<sqlx::migrate::Migrator> {
        None
    }

    /// Description of the API, if there is one.
    #[cfg(feature = "openapi")]
    fn openapi() -> Option<utoipa::openapi::OpenApi> {
        None
    }
}

#[derive(Parser, Debug)]
#[command(version)]
struct Cli<A: clap::Args> {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    args: A,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve the API (the default)
    Serve,
    /// Bring the database to this release's schema, as its owner
    #[cfg(feature = "database")]
    Migrate {
        /// The service's own database, with the role that owns it
        #[arg(long, env = "MIGRATION_DATABASE_URL", hide_env_values = true, value_name = "URL")]
        migration_database_url: Option<crate::Secret>,
    },
    /// Print the API's description (OpenAPI 3.1)
    #[cfg(feature = "openapi")]
    Openapi,
    /// Ask the running service whether it is ready; for containers
    Healthcheck,
}

/// Runs the program with the command line `args`; the first is the program's name. Invalid arguments and `--help` end the
/// process.
pub fn run<P: Program>(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = Cli::<P::Args>::command().name(P::COMMAND).about(P::ABOUT);
    let parsed = Cli::<P::Args>::from_arg_matches(&command.get_matches_from(args));
    let Cli { command, args } = parsed.unwrap_or_else(|error| error.exit());
    match command.unwrap_or(Command::Serve) {
        Command::Serve => match P::load(&args) {
            Err(problems) => problems.exit(),
            Ok(_) if args.as_ref().check_config => {
                println!("the configuration is valid");
                ExitCode::SUCCESS
            }
            Ok(config) => on_runtime(serve::<P>(config)),
        },
        #[cfg(feature = "database")]
        Command::Migrate { migration_database_url } => {
            match P::migrator() {
                Some(migrator) => on_runtime(async move {
                    crate::migrate::run(&migrator, migration_database_url.as_ref()).await
                }),
                None => misused("this service has no database"),
            }
        }
        #[cfg(feature = "openapi")]
        Command::Openapi => match P::openapi() {
            Some(description) => {
                print!("{}", crate::openapi::json(&description));
                ExitCode::SUCCESS
            }
            None => misused("this service has no description of its API"),
        },
        Command::Healthcheck => {
            let address = args.as_ref().ops_listen_addr.as_deref().unwrap_or(P::DEFAULTS.ops_listen_addr);
            match setting::socket_addr(address) {
                Ok(address) => healthcheck::run(address),
                Err(fault) => misused(&format!("OPS_LISTEN_ADDR: {fault}")),
            }
        }
    }
}

fn misused(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(EXIT_CONFIG)
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

async fn serve<P: Program>(config: P::Config) -> ExitCode {
    let process = config.as_ref();
    let settings = TelemetryConfig {
        log_filter: process.log_filter.clone(),
        otlp_endpoint: process.otlp_endpoint.clone(),
        environment: process.environment.clone(),
        good_reads: process.good_reads,
        ..TelemetryConfig::new(P::NAME, env!("CARGO_PKG_VERSION"), REVISION)
    };
    // The guard is dropped at the end of the process, and writes the lines and spans that are queued.
    let _telemetry = match telemetry::init(&settings) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let signals = match Signals::install(process.exit_with_stdin) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signal handlers not installed");
            return ExitCode::FAILURE;
        }
    };
    match P::build(config).await {
        Ok(application) => application.run(signals).await,
        Err(error) => {
            tracing::error!(%error, "service not started");
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
