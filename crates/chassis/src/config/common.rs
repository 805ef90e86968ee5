//! Settings of a service with a database and tokens.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use journal::Database;
use journal::database::Limits;
use mainstay::server::{LimitConfig, RateLimitConfig, ReadBodyConfig, RequestHead, ServerConfig};
use sqlx::postgres::PgConnectOptions;

use super::{Check, Defaults, ProcessArgs, ProcessConfig, setting};
use crate::events::EventSettings;
use crate::{MAX_BODY, Secret, Tokens};

/// Common settings as text, from the command line and the environment; not yet checked. A service flattens them into its
/// own arguments. All values are text, so that one message can list every fault.
#[derive(Args, Debug, Clone, Default)]
pub struct CommonArgs {
    /// The service's own database, with the serving role
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL")]
    pub database_url: Option<Secret>,
    /// Connections to the database at once, beside four for operations; four times as many requests are worked on at once
    /// [default: 16]
    #[arg(long, env = "DATABASE_CONNECTIONS", global = true, value_name = "N")]
    pub database_connections: Option<String>,
    /// Settings of the process
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Lines of `role principal sha256-of-token`
    #[arg(long, env = "AUTH_TOKENS_FILE", global = true, value_name = "PATH")]
    pub auth_tokens_file: Option<String>,
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
    /// Requests a second that each principal may make, all of them at once if it sends them so; further ones are refused
    /// with 429 [default: no quota]
    #[arg(long, env = "PRINCIPAL_QUOTA", global = true, value_name = "N")]
    pub principal_quota: Option<String>,
    /// Folder for the events of this process, one for each request; none are kept when it is absent
    #[arg(long, env = "EVIDENCE_DIR", global = true, value_name = "PATH")]
    pub evidence_dir: Option<String>,
    /// Most bytes of events on disk [default: 512MiB]
    #[arg(long, env = "EVIDENCE_BUDGET", global = true, value_name = "BYTES")]
    pub evidence_budget: Option<String>,
    /// Region that the process runs in, for its events
    #[arg(long, env = "CLOUD_REGION", global = true, value_name = "NAME")]
    pub cloud_region: Option<String>,
}

/// Checked common settings.
#[derive(Debug, Clone)]
pub struct CommonConfig {
    /// Settings of the process.
    pub process: ProcessConfig,
    /// Value of `DATABASE_URL`.
    pub database_url: Secret<PgConnectOptions>,
    /// Value of `DATABASE_CONNECTIONS`.
    pub database_connections: u32,
    /// Content of the file `AUTH_TOKENS_FILE`.
    pub tokens: Tokens,
    /// Value of `FAULTS_ENABLED`.
    pub faults_enabled: bool,
    /// Value of `PRINCIPAL_QUOTA`.
    pub quota: Option<NonZeroU32>,
    /// Values of `EVIDENCE_DIR`, `EVIDENCE_BUDGET` and `CLOUD_REGION`.
    pub events: EventSettings,
}

impl CommonConfig {
    /// Reads and checks the common settings. `check` collects the faults.
    pub fn read(args: &CommonArgs, defaults: Defaults, check: &mut Check) -> Option<Self> {
        let url = args.database_url.as_ref().map(|url| url.expose().as_str());
        let database_url = check.secret("DATABASE_URL", url, setting::postgres_url);
        let connections = args.database_connections.as_deref();
        let database_connections =
            check.or("DATABASE_CONNECTIONS", connections, "16", |t| setting::whole(t, 1..=1_000));
        let process = ProcessConfig::read(&args.process, defaults, check);
        let tokens = read_tokens(args.auth_tokens_file.as_deref(), check);
        let faults_enabled =
            check.or("FAULTS_ENABLED", args.faults_enabled.as_deref(), "false", setting::boolean);
        if faults_enabled == Some(true) && cfg!(not(feature = "faults")) {
            check.problem(
                "FAULTS_ENABLED",
                "this program was built without fault injection (feature `faults`)",
            );
        }
        let events = read_events(args, check);
        let quota = args.principal_quota.as_deref();
        let quota = check.optional("PRINCIPAL_QUOTA", quota, |t| setting::whole(t, 1..=1_000_000));
        Some(Self {
            process: process?,
            database_url: database_url?,
            database_connections: database_connections?,
            tokens: tokens?,
            faults_enabled: faults_enabled?,
            quota: quota?.and_then(NonZeroU32::new),
            events: events?,
        })
    }

    /// A pool of connections to the service's own database. It connects when it is first used.
    pub fn database(&self) -> Database {
        self.pool(self.database_connections)
    }

    /// A pool with three connections for the journal feed. Its readers are slow and take none from requests.
    pub fn feed_database(&self) -> Database {
        self.pool(3)
    }

    /// A pool with one connection for readiness, so that a full pool of requests is not reported as a database that cannot
    /// be read.
    pub fn readiness_database(&self) -> Database {
        self.pool(1)
    }

    fn pool(&self, connections: u32) -> Database {
        Database::keyed(self.database_url.expose().clone(), Limits { connections, ..Limits::default() })
    }

    /// Settings of the public listener's server stack.
    pub fn server(&self) -> ServerConfig {
        let name = |tokens: &Tokens, head: &RequestHead<'_>| {
            tokens.principal(head.headers).map(|principal| Cow::Owned(principal.name.to_string()))
        };
        let tokens = self.tokens.clone();
        let quota = self.quota.map(|quota| {
            let tokens = tokens.clone();
            RateLimitConfig::new(quota, Duration::from_secs(1), move |head| name(&tokens, head))
        });
        self.process
            .server()
            // For each connection to the database, the request that uses it and three that will use it next: a
            // connection never waits for a request, and the queue in front of it stays short.
            .limit(LimitConfig::Fixed(4 * self.database_connections as usize))
            .rate_limit(quota)
            .read_body(Some(ReadBodyConfig::new(MAX_BODY, move |head| name(&tokens, head))))
    }
}

fn read_events(args: &CommonArgs, check: &mut Check) -> Option<EventSettings> {
    let dir = check.optional("EVIDENCE_DIR", args.evidence_dir.as_deref(), setting::folder);
    let budget = args.evidence_budget.as_deref();
    let budget = check.or("EVIDENCE_BUDGET", budget, "512MiB", evidence::parse_bytes);
    let region = check.optional("CLOUD_REGION", args.cloud_region.as_deref(), setting::name);
    Some(EventSettings { dir: dir?, budget: budget?, region: region? })
}

fn read_tokens(path: Option<&str>, check: &mut Check) -> Option<Tokens> {
    let name = "AUTH_TOKENS_FILE";
    let text = check.required(name, path, setting::file)?;
    let errors = match Tokens::parse(&text) {
        Ok(tokens) => return Some(tokens),
        Err(errors) => errors,
    };
    for error in errors {
        check.problem(name, error.to_string());
    }
    None
}
