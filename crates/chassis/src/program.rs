//! A service as a program: its subcommands, its logs, how it starts and with what it ends. The same for every service.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use sqlx::migrate::Migrator;
use telemetry::TelemetryConfig;
use utoipa::openapi::OpenApi;

use crate::Secret;
use crate::config::{CommonArgs, CommonConfig, ConfigProblems, Defaults, EXIT_CONFIG, REVISION, setting};
use crate::server::{Serves, Signals};
use crate::{Application, StartError, healthcheck, migrate, openapi};

/// A service as a program.
pub trait Program: 'static {
    /// Name in logs, spans and the journal.
    const NAME: &'static str;
    /// Name as a command.
    const COMMAND: &'static str;
    /// Purpose, in one sentence.
    const ABOUT: &'static str;
    /// Default addresses of the two listeners.
    const DEFAULTS: Defaults;
    /// Settings as text, from the command line and the environment.
    type Args: clap::Args + AsRef<CommonArgs>;
    /// Checked settings.
    type Config: AsRef<CommonConfig>;

    /// Reads and checks the settings. The error lists every fault.
    fn load(args: &Self::Args) -> Result<Self::Config, ConfigProblems>;
    /// The migrations to the schema that this release needs.
    fn migrator() -> Migrator;
    /// The API's description.
    fn openapi() -> OpenApi;
    /// Assembles the service and opens its ports.
    fn build(
        config: Self::Config,
    ) -> impl Future<Output = Result<Application<impl Serves>, StartError>> + Send;
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

/// The whole program, as `args` say (the first is its own name). Wrong arguments and `--help` end the process.
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
        Command::Migrate { migration_database_url } => {
            on_runtime(async move { migrate::run(&P::migrator(), migration_database_url.as_ref()).await })
        }
        Command::Openapi => {
            print!("{}", openapi::json(&P::openapi()));
            ExitCode::SUCCESS
        }
        Command::Healthcheck => probe::<P>(args.as_ref()),
    }
}

fn probe<P: Program>(args: &CommonArgs) -> ExitCode {
    match setting::socket_addr(args.ops_listen_addr.as_deref().unwrap_or(P::DEFAULTS.ops_listen_addr)) {
        Ok(address) => healthcheck::run(address),
        Err(why) => {
            eprintln!("OPS_LISTEN_ADDR: {why}");
            ExitCode::from(EXIT_CONFIG)
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

async fn serve<P: Program>(config: P::Config) -> ExitCode {
    let common = config.as_ref();
    let settings = TelemetryConfig {
        log_filter: common.log_filter.clone(),
        otlp_endpoint: common.otlp_endpoint.clone(),
        ..TelemetryConfig::new(P::NAME, env!("CARGO_PKG_VERSION"), REVISION)
    };
    // Held to the end: dropping it flushes what is still queued.
    let _telemetry = match telemetry::init(&settings) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let signals = match Signals::install(common.exit_with_stdin) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be handled");
            return ExitCode::FAILURE;
        }
    };
    match P::build(config).await {
        Ok(application) => application.run(signals).await,
        Err(error) => {
            tracing::error!(%error, "could not start");
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
