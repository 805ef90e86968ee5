//! The roles and databases of the pair, on a private server or on a server that existed before.
//!
//! Each service has its own database with two roles: the owner, which migrates, and the serving role, which can
//! neither create objects nor connect to the other service's database. Every step may run again at any time and
//! undoes changes that were made by hand. The SQL is in `migrations/`; the container set-up uses the same files.

use std::fmt;

use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::Secret;

const ROLES: &str = include_str!("../../../migrations/roles.sql");
const DATABASE: &str = include_str!("../../../migrations/database.sql");

/// One of the two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    Order,
    Inventory,
}

impl Service {
    pub const BOTH: [Self; 2] = [Self::Order, Self::Inventory];

    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Inventory => "inventory",
        }
    }

    /// The role that the running service connects as; migrations grant it what it needs. The database has the same
    /// name unless a test gives another one.
    pub fn serving_role(self) -> &'static str {
        match self {
            Self::Order => "mainstay_order",
            Self::Inventory => "mainstay_inventory",
        }
    }

    /// The role that owns the database and migrates it.
    pub fn owner_role(self) -> &'static str {
        match self {
            Self::Order => "mainstay_order_owner",
            Self::Inventory => "mainstay_inventory_owner",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The passwords of one service's roles. Roles belong to the whole server, so these passwords do too.
#[derive(Debug, Clone)]
pub struct Passwords {
    owner: Secret,
    serving: Secret,
}

/// URLs of one service's database, passwords included.
#[derive(Clone)]
pub struct DatabaseUrls {
    /// For `MIGRATION_DATABASE_URL`.
    pub owner: String,
    /// For `DATABASE_URL`.
    pub serving: String,
}

impl fmt::Debug for DatabaseUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrls(…)")
    }
}

/// Creates the roles of a service, or gives existing ones new random passwords.
pub async fn roles(admin: &PgConnectOptions, service: Service) -> Result<Passwords, sqlx::Error> {
    let passwords = Passwords { owner: Secret::generate(), serving: Secret::generate() };
    let mut connection = PgConnection::connect_with(admin).await?;
    name_roles(&mut connection, service).await?;
    set(&mut connection, "mainstay.owner_password", passwords.owner.expose()).await?;
    set(&mut connection, "mainstay.serving_password", passwords.serving.expose()).await?;
    sqlx::raw_sql(ROLES).execute(&mut connection).await?;
    connection.close().await?;
    Ok(passwords)
}

/// Creates a service's database unless it exists (as a clone of a template, or from an earlier run), and sets the
/// rights in it.
pub async fn database(
    admin: &PgConnectOptions,
    service: Service,
    name: &str,
    passwords: &Passwords,
) -> Result<DatabaseUrls, sqlx::Error> {
    let mut connection = PgConnection::connect_with(admin).await?;
    let statement: Option<String> = sqlx::query_scalar(
        "SELECT format('CREATE DATABASE %I OWNER %I', $1::text, $2::text)
         WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = $1)",
    )
    .bind(name)
    .bind(service.owner_role())
    .fetch_optional(&mut connection)
    .await?;
    if let Some(statement) = statement {
        // Safe: `format` has quoted both names.
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    }
    connection.close().await?;

    let within = admin.clone().database(name);
    let mut connection = PgConnection::connect_with(&within).await?;
    name_roles(&mut connection, service).await?;
    sqlx::raw_sql(DATABASE).execute(&mut connection).await?;
    connection.close().await?;
    let url =
        |role, password: &Secret| connection_url(&within.clone().username(role).password(password.expose()));
    Ok(DatabaseUrls {
        owner: url(service.owner_role(), &passwords.owner),
        serving: url(service.serving_role(), &passwords.serving),
    })
}

/// Builds a URL that every PostgreSQL client understands. sqlx ends its own URLs with a setting that only sqlx knows.
pub(crate) fn connection_url(options: &PgConnectOptions) -> String {
    let url = options.to_url_lossy().to_string();
    url.split("&statement-cache-capacity=").next().unwrap_or_default().to_owned()
}

async fn name_roles(connection: &mut PgConnection, service: Service) -> Result<(), sqlx::Error> {
    set(connection, "mainstay.owner", service.owner_role()).await?;
    set(connection, "mainstay.serving", service.serving_role()).await
}

async fn set(connection: &mut PgConnection, name: &str, value: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT set_config($1, $2, false)").bind(name).bind(value).execute(connection).await.map(drop)
}
