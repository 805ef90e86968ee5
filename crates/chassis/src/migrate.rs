//! The `migrate` subcommand: brings a service's database to its schema, as the role that owns it.

use std::process::ExitCode;

use sqlx::Connection;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;

use crate::Secret;
use crate::config::EXIT_CONFIG;

/// Runs `migrator` over one connection to `url` (`MIGRATION_DATABASE_URL`) and says what it did.
pub async fn run(migrator: &Migrator, url: Option<&Secret>) -> ExitCode {
    let Some(url) = url else {
        eprintln!("MIGRATION_DATABASE_URL is not set: the URL of the database with the role that owns it");
        return ExitCode::from(EXIT_CONFIG);
    };
    let mut connection = match PgConnection::connect(url.expose()).await {
        Ok(connection) => connection,
        Err(error) => {
            eprintln!("MIGRATION_DATABASE_URL: cannot connect: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = migrator.run_direct(None, &mut connection, false).await;
    // A failed goodbye changes nothing: the server notices the closed socket.
    drop(connection.close().await);
    match done {
        Ok(()) => {
            println!("the schema is at version {}", newest(migrator));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the migration failed and was rolled back: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The newest version that `migrator` knows.
fn newest(migrator: &Migrator) -> i64 {
    migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
}
