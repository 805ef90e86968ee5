//! The settings that both services take.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use journal::Database;
use journal::database::Limits;
use mainstay::server::{LimitConfig, RateLimitConfig, ReadBodyConfig, RequestHead, ServerConfig};
use sqlx::postgres::PgConnectOptions;

use super::{Check, setting};
use crate::{MAX_BODY, Secret, Tokens};

/// The common settings as the command line and the environment give them, unread. Flatten this into the
/// service's own arguments. Everything is text here, so that one message can list all that is wrong.
#[derive(Args, Debug, Clone, Default)]
pub struct CommonArgs {
    /// The service's own database, with the serving role
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL")]
    pub database_url: Option<Secret>,
    /// Connections to the database at once, beside four for operations; four times as many requests are worked on at once
    /// [default: 16]
    #[arg(long, env = "DATABASE_CONNECTIONS", global = true, value_name = "N")]
    pub database_connections: Option<String>,
    /// Where the public API listens
    #[arg(long, env = "LISTEN_ADDR", global = true, value_name = "ADDR:PORT")]
    pub listen_addr: Option<String>,
    /// Where health, metrics and administration listen
    #[arg(long, env = "OPS_LISTEN_ADDR", global = true, value_name = "ADDR:PORT")]
    pub ops_listen_addr: Option<String>,
    /// Lines of `role principal sha256-of-token`
    #[arg(long, env = "AUTH_TOKENS_FILE", global = true, value_name = "PATH")]
    pub auth_tokens_file: Option<String>,
    /// Where spans are sent (OTLP over HTTP); none are when it is absent
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", global = true, value_name = "URL")]
    pub otel_exporter_otlp_endpoint: Option<String>,
    /// Which log lines are written [default: info]
    #[arg(long, env = "RUST_LOG", global = true, value_name = "FILTER")]
    pub rust_log: Option<String>,
    /// Allows faults to be injected through the operations listener [default: false]
    #[arg(
        long,
        env = "FAULTS_ENABLED",
        global = true,
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true
    )]
    pub faults_enabled: Option<String>,
    /// Open connections at once on the public listener [default: 1024]
    #[arg(long, env = "MAX_CONNECTIONS", global = true, value_name = "N")]
    pub max_connections: Option<String>,
    /// Requests a second that each principal may make, all at once if it likes; refused with 429 beyond
    /// [default: no quota]
    #[arg(long, env = "PRINCIPAL_QUOTA", global = true, value_name = "N")]
    pub principal_quota: Option<String>,
    /// How long a shutdown waits for work in hand [default: 10]
    #[arg(long, env = "SHUTDOWN_SECONDS", global = true, value_name = "SECONDS")]
    pub shutdown_seconds: Option<String>,
    /// Shut down when standard input ends, as it does when the parent process dies [default: false]
    #[arg(long, env = "MAINSTAY_EXIT_WITH_STDIN", global = true, hide = true, value_name = "BOOL")]
    pub exit_with_stdin: Option<String>,
    /// Check the configuration and exit
    #[arg(long, global = true)]
    pub check_config: bool,
}

/// What differs between services.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// Default of `LISTEN_ADDR`.
    pub listen_addr: &'static str,
    /// Default of `OPS_LISTEN_ADDR`.
    pub ops_listen_addr: &'static str,
}

/// The common settings, valid.
#[derive(Debug, Clone)]
pub struct CommonConfig {
    /// `DATABASE_URL`.
    pub database_url: Secret<PgConnectOptions>,
    /// `DATABASE_CONNECTIONS`.
    pub database_connections: u32,
    /// `LISTEN_ADDR`.
    pub listen_addr: SocketAddr,
    /// `OPS_LISTEN_ADDR`.
    pub ops_listen_addr: SocketAddr,
    /// What `AUTH_TOKENS_FILE` holds.
    pub tokens: Tokens,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub otlp_endpoint: Option<String>,
    /// `RUST_LOG`.
    pub log_filter: String,
    /// `FAULTS_ENABLED`.
    pub faults_enabled: bool,
    /// `MAX_CONNECTIONS`.
    pub max_connections: usize,
    /// `PRINCIPAL_QUOTA`.
    pub quota: Option<NonZeroU32>,
    /// `SHUTDOWN_SECONDS`.
    pub shutdown_grace: Duration,
    /// `MAINSTAY_EXIT_WITH_STDIN`.
    pub exit_with_stdin: bool,
}

impl CommonConfig {
    /// Reads and checks the common settings; what is wrong is noted in `check`.
    pub fn read(args: &CommonArgs, defaults: Defaults, check: &mut Check) -> Option<Self> {
        let url = args.database_url.as_ref().map(|url| url.expose().as_str());
        let database_url = check.secret("DATABASE_URL", url, setting::postgres_url);
        let connections = args.database_connections.as_deref();
        let database_connections =
            check.or("DATABASE_CONNECTIONS", connections, "16", |t| setting::whole(t, 1..=1_000));
        let listen_addr = args.listen_addr.as_deref();
        let listen_addr = check.or("LISTEN_ADDR", listen_addr, defaults.listen_addr, setting::socket_addr);
        let ops = args.ops_listen_addr.as_deref();
        let ops_listen_addr =
            check.or("OPS_LISTEN_ADDR", ops, defaults.ops_listen_addr, setting::socket_addr);
        if let (Some(public), Some(ops)) = (listen_addr, ops_listen_addr)
            && public.port() != 0
            && public == ops
        {
            check.problem("OPS_LISTEN_ADDR", format!("{ops} is LISTEN_ADDR too; they must differ"));
        }
        let tokens = read_tokens(args.auth_tokens_file.as_deref(), check);
        let otlp = args.otel_exporter_otlp_endpoint.as_deref();
        let otlp_endpoint = check.optional("OTEL_EXPORTER_OTLP_ENDPOINT", otlp, setting::http_url);
        let log_filter = check.or("RUST_LOG", args.rust_log.as_deref(), "info", setting::log_filter);
        let faults_enabled =
            check.or("FAULTS_ENABLED", args.faults_enabled.as_deref(), "false", setting::boolean);
        if faults_enabled == Some(true) && cfg!(not(feature = "faults")) {
            check.problem(
                "FAULTS_ENABLED",
                "this program was built without fault injection (feature `faults`)",
            );
        }
        // 1,024 connections at two file descriptors each stay below the usual limit of 4,096 with room to spare.
        let max_connections = args.max_connections.as_deref();
        let max_connections =
            check.or("MAX_CONNECTIONS", max_connections, "1024", |t| setting::whole(t, 1..=65_536));
        let quota = args.principal_quota.as_deref();
        let quota = check.optional("PRINCIPAL_QUOTA", quota, |t| setting::whole(t, 1..=1_000_000));
        let shutdown = args.shutdown_seconds.as_deref();
        let shutdown_seconds = check.or("SHUTDOWN_SECONDS", shutdown, "10", |t| setting::whole(t, 0..=300));
        let stdin = args.exit_with_stdin.as_deref();
        let exit_with_stdin = check.or("MAINSTAY_EXIT_WITH_STDIN", stdin, "false", setting::boolean);
        Some(Self {
            database_url: database_url?,
            database_connections: database_connections?,
            listen_addr: listen_addr?,
            ops_listen_addr: ops_listen_addr?,
            tokens: tokens?,
            otlp_endpoint: otlp_endpoint?,
            log_filter: log_filter?,
            faults_enabled: faults_enabled?,
            max_connections: max_connections?,
            quota: quota?.and_then(NonZeroU32::new),
            shutdown_grace: Duration::from_secs(shutdown_seconds?),
            exit_with_stdin: exit_with_stdin?,
        })
    }

    /// The service's own database; nothing is connected yet.
    pub fn database(&self) -> Database {
        self.pool(self.database_connections)
    }

    /// The same database with three connections for the journal feed. Its readers are slow and take none from requests.
    pub fn feed_database(&self) -> Database {
        self.pool(3)
    }

    /// The same database with one connection for readiness, so that a full pool is not taken for a database that cannot be
    /// read.
    pub fn readiness_database(&self) -> Database {
        self.pool(1)
    }

    fn pool(&self, connections: u32) -> Database {
        Database::new(self.database_url.expose().clone(), Limits { connections, ..Limits::default() })
    }

    /// What the public listener's server stack is told.
    pub fn server(&self) -> ServerConfig {
        let name = |tokens: &Tokens, head: &RequestHead<'_>| {
            tokens.principal(head.headers).map(|principal| Cow::Owned(principal.name.to_string()))
        };
        let tokens = self.tokens.clone();
        let quota = self.quota.map(|quota| {
            let tokens = tokens.clone();
            RateLimitConfig::new(quota, Duration::from_secs(1), move |head| name(&tokens, head))
        });
        ServerConfig {
            route: Some(Arc::new(crate::routes::matched)),
            // For each connection to the database the request that uses it and three that are about to: it never waits
            // for them, and the queue in front of it stays short.
            limit: LimitConfig::Fixed(4 * self.database_connections as usize),
            rate_limit: quota,
            read_body: Some(ReadBodyConfig::new(MAX_BODY, move |head| name(&tokens, head))),
            ..ServerConfig::default()
        }
    }
}

fn read_tokens(path: Option<&str>, check: &mut Check) -> Option<Tokens> {
    let name = "AUTH_TOKENS_FILE";
    let text = check.required(name, path, setting::file)?;
    match Tokens::parse(&text) {
        Ok(tokens) => Some(tokens),
        Err(errors) => {
            check.problems(name, errors.iter().map(ToString::to_string));
            None
        }
    }
}
