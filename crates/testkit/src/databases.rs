//! A real PostgreSQL database for every test.
//!
//! The first test of a process starts a private cluster, without fsync and in memory if there is enough, and migrates
//! one template database for each service. Each test gets a copy of the template. The cluster stops with the process,
//! also if the process is killed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::process::Stdio;
use std::sync::{OnceLock, mpsc};

use anyhow::Context as _;
use local::provision::{self, DatabaseUrls, Passwords};
use local::{Postgres, PostgresOptions, Service};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::{Mutex, OnceCell};
use uuid::Uuid;

static CLUSTER: OnceCell<TestCluster> = OnceCell::const_new();

/// A private PostgreSQL cluster, shared by the tests of this process or used by a single test.
#[derive(Debug)]
pub struct TestCluster {
    postgres: Mutex<Postgres>,
    admin: PgConnectOptions,
    passwords: HashMap<Service, Passwords>,
    /// Names of the migrated templates. The lock is held during a migration, so that each template is made once.
    templates: Mutex<HashMap<Service, String>>,
    /// True if the cluster outlives a test. Then each database is removed on its own.
    shared: bool,
}

/// Migration of a template database.
#[derive(Debug, Clone, Copy)]
pub enum Migration<'a> {
    /// A migrator that runs in this process.
    Here(&'a Migrator),
    /// A service's program and arguments, run with the further argument `migrate`.
    Program(&'a [OsString]),
}

/// One service's database for one test. Dropping the value removes the database, unless the cluster stops with the
/// test.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    urls: DatabaseUrls,
    admin: PgConnectOptions,
    cluster_is_shared: bool,
}

impl TestCluster {
    /// The shared cluster of this process, started on first use.
    pub async fn get() -> anyhow::Result<&'static Self> {
        CLUSTER.get_or_try_init(|| Self::start(true)).await
    }

    /// A new cluster for a single test, which may kill it without affecting other tests.
    pub async fn own() -> anyhow::Result<Self> {
        Self::start(false).await
    }

    async fn start(shared: bool) -> anyhow::Result<Self> {
        let postgres =
            Postgres::start(PostgresOptions::for_tests()).await.context("starting PostgreSQL for tests")?;
        let admin = postgres.connect_options("postgres");
        let mut passwords = HashMap::new();
        for service in Service::BOTH {
            passwords.insert(service, provision::roles(&admin, service).await.context("roles")?);
        }
        Ok(Self { postgres: Mutex::new(postgres), admin, passwords, templates: Mutex::default(), shared })
    }

    /// Kills the server with SIGKILL and waits until it is gone. It stays dead until [`TestCluster::start_again`].
    pub async fn kill(&self) {
        self.postgres.lock().await.kill().await;
    }

    /// Restarts a killed server on the same port and data, and waits until it has recovered.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        self.postgres.lock().await.start_again().await.context("restarting PostgreSQL for tests")
    }

    /// Stops the server, removes its data and waits until both are done.
    pub async fn end(self) -> anyhow::Result<()> {
        self.postgres.into_inner().stop().await.context("stopping PostgreSQL for tests")
    }

    /// Superuser connection options for a database of the cluster.
    pub fn admin(&self, database: &str) -> PgConnectOptions {
        self.admin.clone().database(database)
    }

    /// A new database of `service`, migrated by `migration`. All calls for one service must pass the same migration.
    pub async fn database(&self, service: Service, migration: Migration<'_>) -> anyhow::Result<TestDatabase> {
        let template = self.template(service, migration).await?;
        let name = name(service, "test");
        let copy = format!("CREATE DATABASE {name} TEMPLATE {template}");
        self.execute(copy).await.context("copying the template")?;
        // PostgreSQL does not copy the privileges of a database with the database.
        let urls = self.grant(service, &name).await?;
        Ok(TestDatabase { name, urls, admin: self.admin("postgres"), cluster_is_shared: self.shared })
    }

    async fn template(&self, service: Service, migration: Migration<'_>) -> anyhow::Result<String> {
        let mut templates = self.templates.lock().await;
        if let Some(template) = templates.get(&service) {
            return Ok(template.clone());
        }
        let template = name(service, "template");
        let urls = self.grant(service, &template).await?;
        migration.run(&urls.owner).await.with_context(|| format!("migrating {service}"))?;
        templates.insert(service, template.clone());
        Ok(template)
    }

    async fn grant(&self, service: Service, name: &str) -> anyhow::Result<DatabaseUrls> {
        let passwords = &self.passwords[&service];
        provision::database(&self.admin("postgres"), service, name, passwords).await.context("granting")
    }

    async fn execute(&self, statement: String) -> Result<(), sqlx::Error> {
        execute(&self.admin("postgres"), statement).await
    }
}

impl TestDatabase {
    /// A copy of `service`'s migrated template in this process's cluster.
    pub async fn new(service: Service, migrator: &Migrator) -> anyhow::Result<Self> {
        TestCluster::get().await?.database(service, Migration::Here(migrator)).await
    }

    /// URL for the role that serves requests.
    pub fn serving_url(&self) -> &str {
        &self.urls.serving
    }

    /// URL for the owner role, which runs migrations.
    pub fn owner_url(&self) -> &str {
        &self.urls.owner
    }

    /// Superuser connection options, for actions that no role of the service may do: reading all tables in one
    /// snapshot, locking tables, killing sessions.
    pub fn admin(&self) -> PgConnectOptions {
        self.admin.clone().database(&self.name)
    }

    /// Name of the database in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if !self.cluster_is_shared {
            return;
        }
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // Sending fails only while the process ends, and then the cluster ends too.
        let _ending = remover().send((self.admin.clone(), statement));
    }
}

impl Migration<'_> {
    async fn run(self, owner_url: &str) -> anyhow::Result<()> {
        match self {
            Self::Here(migrator) => {
                let mut owner = PgConnection::connect(owner_url).await.context("connecting as the owner")?;
                migrator.run(&mut owner).await?;
                // PostgreSQL cannot copy a database that has a session.
                owner.close().await.context("closing the owner's session")
            }
            Self::Program(command) => {
                let (program, arguments) = command.split_first().context("the command names no program")?;
                let mut migrate = tokio::process::Command::new(program);
                migrate.args(arguments).arg("migrate").env("MIGRATION_DATABASE_URL", owner_url);
                let output = migrate.stdin(Stdio::null()).kill_on_drop(true).output().await?;
                let stderr = String::from_utf8_lossy(&output.stderr);
                anyhow::ensure!(output.status.success(), "{}\n{stderr}", output.status);
                Ok(())
            }
        }
    }
}

/// A unique database name that needs no quotes in SQL.
fn name(service: Service, purpose: &str) -> String {
    format!("{service}_{purpose}_{}", Uuid::new_v4().simple())
}

async fn execute(admin: &PgConnectOptions, statement: String) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(admin).await?;
    // Safe: the statement contains only names from `name`.
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await
}

/// Sender to the thread that removes databases.
///
/// `Drop` cannot wait, and the runtime of a test ends with the test, so a thread of its own runs the statements.
fn remover() -> &'static mpsc::Sender<(PgConnectOptions, String)> {
    static REMOVER: OnceLock<mpsc::Sender<(PgConnectOptions, String)>> = OnceLock::new();
    REMOVER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<(PgConnectOptions, String)>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("the operating system gives a descriptor for the runtime's reactor");
            for (admin, statement) in receiver {
                if let Err(error) = runtime.block_on(execute(&admin, statement)) {
                    eprintln!(
                        "testkit: removing a test database failed; it stays until the cluster stops: {error}"
                    );
                }
            }
        });
        sender
    })
}
