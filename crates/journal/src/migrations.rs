//! Migrations: the journal's own, followed by the service's, as one numbered history.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The journal's tables, at version 1. A service numbers its own from 1001.
const JOURNAL: &str = include_str!("../migrations/0001_journal.sql");

/// The journal's migrations and the service's, given as (version, name, SQL).
pub fn migrator(service: &[(i64, &'static str, &'static str)]) -> Migrator {
    let make = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let all = std::iter::once((1, "journal", JOURNAL)).chain(service.iter().copied());
    Migrator::with_migrations(all.map(make).collect())
}
