//! The `migrate` subcommand: brings a service's database to its schema, as the role that owns it.

use std::process::ExitCode;

use journal::migrations::{self, Migrated, Schema};
use sqlx::Connection;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;

use crate::Secret;
use crate::config::EXIT_CONFIG;

/// Runs `migrator` over one connection to `url` (`MIGRATION_DATABASE_URL`) and prints the result.
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
    let done = migrations::run(migrator, &mut connection).await;
    // An error here changes nothing: the server sees that the socket is closed.
    drop(connection.close().await);
    match done {
        Ok(Migrated { schema, restored }) => {
            match schema {
                Schema::Current(version) => println!("the schema is at version {version}"),
                Schema::Newer(version) => {
                    println!("the schema is newer than this release (version {version}), nothing to do");
                }
            }
            if let Some(restored) = restored {
                println!(
                    "the journal was restored from another database server: its entries up to number {} are history; \
                     readers begin again without a cursor",
                    restored.history_end
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the schema could not be migrated: {error}");
            ExitCode::FAILURE
        }
    }
}
