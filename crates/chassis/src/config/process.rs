//! Settings of every process: listeners, logs, shutdown.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use mainstay::server::ServerConfig;

use super::{Check, setting};

/// Settings of a process as text, from the command line and the environment; not yet checked.
#[derive(Args, Debug, Clone, Default)]
pub struct ProcessArgs {
    /// Address of the public API
    #[arg(long, env = "LISTEN_ADDR", global = true, value_name = "ADDR:PORT")]
    pub listen_addr: Option<String>,
    /// Address of health, metrics and administration
    #[arg(long, env = "OPS_LISTEN_ADDR", global = true, value_name = "ADDR:PORT")]
    pub ops_listen_addr: Option<String>,
    /// Collector of spans (OTLP over HTTP); without it no spans are sent
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", global = true, value_name = "URL")]
    pub otel_exporter_otlp_endpoint: Option<String>,
    /// Filter of log lines [default: info]
    #[arg(long, env = "RUST_LOG", global = true, value_name = "FILTER")]
    pub rust_log: Option<String>,
    /// Name of the environment in logs, spans and metrics, such as `production` [default: local]
    #[arg(long, env = "DEPLOYMENT_ENVIRONMENT", global = true, value_name = "NAME")]
    pub deployment_environment: Option<String>,
    /// Of the log lines of successful reads, one in N is written for each route [default: 100]
    #[arg(long, env = "LOG_GOOD_READS", global = true, value_name = "N")]
    pub log_good_reads: Option<String>,
    /// Open connections at once on the public listener [default: 1024]
    #[arg(long, env = "MAX_CONNECTIONS", global = true, value_name = "N")]
    pub max_connections: Option<String>,
    /// Time for requests and tasks in flight to end at a shutdown [default: 10]
    #[arg(long, env = "SHUTDOWN_SECONDS", global = true, value_name = "SECONDS")]
    pub shutdown_seconds: Option<String>,
    /// Shut down when standard input ends, as it does when the parent process dies [default: false]
    #[arg(long, env = "MAINSTAY_EXIT_WITH_STDIN", global = true, hide = true, value_name = "BOOL")]
    pub exit_with_stdin: Option<String>,
    /// Check the configuration and exit
    #[arg(long, global = true)]
    pub check_config: bool,
}

/// Default addresses of a service.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// Default of `LISTEN_ADDR`.
    pub listen_addr: &'static str,
    /// Default of `OPS_LISTEN_ADDR`.
    pub ops_listen_addr: &'static str,
}

/// Checked settings of a process.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// Value of `LISTEN_ADDR`.
    pub listen_addr: SocketAddr,
    /// Value of `OPS_LISTEN_ADDR`.
    pub ops_listen_addr: SocketAddr,
    /// Value of `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub otlp_endpoint: Option<String>,
    /// Value of `RUST_LOG`.
    pub log_filter: String,
    /// Value of `DEPLOYMENT_ENVIRONMENT`.
    pub environment: String,
    /// Value of `LOG_GOOD_READS`.
    pub good_reads: NonZeroU32,
    /// Value of `MAX_CONNECTIONS`.
    pub max_connections: usize,
    /// Value of `SHUTDOWN_SECONDS`.
    pub shutdown_grace: Duration,
    /// Value of `MAINSTAY_EXIT_WITH_STDIN`.
    pub exit_with_stdin: bool,
}

impl AsRef<ProcessArgs> for ProcessArgs {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsRef<ProcessConfig> for ProcessConfig {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl ProcessConfig {
    /// Reads and checks the settings. `check` collects the faults.
    pub fn read(args: &ProcessArgs, defaults: Defaults, check: &mut Check) -> Option<Self> {
        let (public, ops) = (args.listen_addr.as_deref(), args.ops_listen_addr.as_deref());
        let listen_addr = check.or("LISTEN_ADDR", public, defaults.listen_addr, setting::socket_addr);
        let ops_listen_addr =
            check.or("OPS_LISTEN_ADDR", ops, defaults.ops_listen_addr, setting::socket_addr);
        if let (Some(public), Some(ops)) = (listen_addr, ops_listen_addr)
            && public.port() != 0
            && public == ops
        {
            check.problem("OPS_LISTEN_ADDR", format!("{ops} is LISTEN_ADDR too; they must differ"));
        }
        let otlp = args.otel_exporter_otlp_endpoint.as_deref();
        let otlp_endpoint = check.optional("OTEL_EXPORTER_OTLP_ENDPOINT", otlp, setting::otlp_url);
        let log_filter = check.or("RUST_LOG", args.rust_log.as_deref(), "info", setting::log_filter);
        let environment = args.deployment_environment.as_deref();
        let environment = check.or("DEPLOYMENT_ENVIRONMENT", environment, "local", setting::name);
        // Clients poll: with 100, polling adds a tenth to the lines of an order.
        let good_reads = args.log_good_reads.as_deref();
        let good_reads = check.or("LOG_GOOD_READS", good_reads, "100", |t| setting::whole(t, 1..=1_000_000));
        // 1,024 connections at two file descriptors each stay below the usual limit of 4,096 with room to spare.
        let connections = args.max_connections.as_deref();
        let max_connections =
            check.or("MAX_CONNECTIONS", connections, "1024", |t| setting::whole(t, 1..=65_536));
        let shutdown = args.shutdown_seconds.as_deref();
        let shutdown_seconds = check.or("SHUTDOWN_SECONDS", shutdown, "10", |t| setting::whole(t, 0..=300));
        let stdin = args.exit_with_stdin.as_deref();
        let exit_with_stdin = check.or("MAINSTAY_EXIT_WITH_STDIN", stdin, "false", setting::boolean);
        Some(Self {
            listen_addr: listen_addr?,
            ops_listen_addr: ops_listen_addr?,
            otlp_endpoint: otlp_endpoint?,
            log_filter: log_filter?,
            environment: environment?,
            good_reads: good_reads.and_then(NonZeroU32::new)?,
            max_connections: max_connections?,
            shutdown_grace: Duration::from_secs(shutdown_seconds?),
            exit_with_stdin: exit_with_stdin?,
        })
    }

    /// Settings of the public listener's server stack: the defaults, and requests labelled by their route.
    pub fn server(&self) -> ServerConfig {
        ServerConfig::default().route(crate::routes::matched)
    }
}
