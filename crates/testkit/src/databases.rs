//! A real PostgreSQL for every test, at the price of copying an empty database.
//!
//! The first test of a process starts a private cluster (in memory when there is room, without fsync) and
//! migrates one template database per service; each test gets a copy of it. The cluster ends with the process,
//! however that ends.

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

/// A private cluster: the one of this process, or one of a single test's own.
#[derive(Debug)]
pub struct TestCluster {
    postgres: Mutex<Postgres>,
    admin: PgConnectOptions,
    passwords: HashMap<Service, Passwords>,
    /// The names of the migrated templates. Held while one is made, so that it is made once.
    templates: Mutex<HashMap<Service, String>>,
    /// Whether it lives on when a test ends; its databases are then removed one by one.
    shared: bool,
}

/// How a template comes by its tables.
#[derive(Debug, Clone, Copy)]
pub enum Migration<'a> {
    /// Run in this process.
    Here(&'a Migrator),
    /// The service's own command, to which `migrate` is added.
    Program(&'a [OsString]),
}

/// One service's database for one test. Dropping it removes it, where the cluster does not end with the test.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    urls: DatabaseUrls,
    admin: PgConnectOptions,
    cluster_is_shared: bool,
}

impl TestCluster {
    /// The cluster of this process, started on first use.
    pub async fn get() -> anyhow::Result<&'static Self> {
        CLUSTER.get_or_try_init(|| Self::start(true)).await
    }

    /// A cluster of one test's own, which may be killed without anybody else noticing.
    pub async fn own() -> anyhow::Result<Self> {
        Self::start(false).await
    }

    async fn start(shared: bool) -> anyhow::Result<Self> {
        let postgres =
            Postgres::start(PostgresOptions::for_tests()).await.context("the tests' PostgreSQL")?;
        let admin = postgres.connect_options("postgres");
        let mut passwords = HashMap::new();
        for service in Service::BOTH {
            passwords.insert(service, provision::roles(&admin, service).await.context("roles")?);
        }
        Ok(Self { postgres: Mutex::new(postgres), admin, passwords, templates: Mutex::default(), shared })
    }

    /// SIGKILL. Returns when the server is gone; it stays so until [`TestCluster::start_again`].
    pub async fn kill(&self) {
        self.postgres.lock().await.kill().await;
    }

    /// Starts a killed server again on its port and data, and waits until it has recovered.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        self.postgres.lock().await.start_again().await.context("the tests' PostgreSQL, again")
    }

    /// Ends it and waits until nothing of it is left.
    pub async fn end(self) -> anyhow::Result<()> {
        self.postgres.into_inner().stop().await.context("the tests' PostgreSQL, at its end")
    }

    /// A superuser's way to a database of the cluster.
    pub fn admin(&self, database: &str) -> PgConnectOptions {
        self.admin.clone().database(database)
    }

    /// A new database of `service`, migrated by `migration`. All calls for one service must bring the same one.
    pub async fn database(&self, service: Service, migration: Migration<'_>) -> anyhow::Result<TestDatabase> {
        let template = self.template(service, migration).await?;
        let name = name(service, "test");
        let copy = format!("CREATE DATABASE {name} TEMPLATE {template}");
        self.execute(copy).await.context("copying the template")?;
        // What is granted on a database is not copied with it.
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

    /// The URL that the running service gets.
    pub fn serving_url(&self) -> &str {
        &self.urls.serving
    }

    /// The URL that migrations get.
    pub fn owner_url(&self) -> &str {
        &self.urls.owner
    }

    /// A superuser's way to it, for what no role of the service may do: reading everything at once, locking,
    /// killing sessions.
    pub fn admin(&self) -> PgConnectOptions {
        self.admin.clone().database(&self.name)
    }

    /// Its name in the cluster.
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
        // Nobody receives once the process is ending, and the cluster with it.
        let _ending = remover().send((self.admin.clone(), statement));
    }
}

impl Migration<'_> {
    async fn run(self, owner_url: &str) -> anyhow::Result<()> {
        match self {
            Self::Here(migrator) => {
                let mut owner = PgConnection::connect(owner_url).await.context("connecting as the owner")?;
                migrator.run(&mut owner).await?;
                // A database with a session cannot be copied.
                owner.close().await.context("closing the owner's session")
            }
            Self::Program(command) => {
                let (program, arguments) = command.split_first().context("a program to run")?;
                let mut migrate = tokio::process::Command::new(program);
                migrate.args(arguments).arg("migrate").env("MIGRATION_DATABASE_URL", owner_url);
                let output = migrate.stdin(Stdio::null()).kill_on_drop(true).output().await?;
                let said = String::from_utf8_lossy(&output.stderr);
                anyhow::ensure!(output.status.success(), "{}\n{said}", output.status);
                Ok(())
            }
        }
    }
}

/// A name that needs no quotes.
fn name(service: Service, what: &str) -> String {
    format!("{service}_{what}_{}", Uuid::new_v4().simple())
}

async fn execute(admin: &PgConnectOptions, statement: String) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(admin).await?;
    // Safe: made of names that this file makes.
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await
}

/// One thread that removes databases one by one: dropping cannot wait, and each test's runtime ends with it.
fn remover() -> &'static mpsc::Sender<(PgConnectOptions, String)> {
    static REMOVER: OnceLock<mpsc::Sender<(PgConnectOptions, String)>> = OnceLock::new();
    REMOVER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<(PgConnectOptions, String)>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime on the current thread needs nothing that could be missing");
            for (admin, statement) in receiver {
                if let Err(error) = runtime.block_on(execute(&admin, statement)) {
                    eprintln!("a test's database stays until the cluster ends: {error}");
                }
            }
        });
        sender
    })
}
