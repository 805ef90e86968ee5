//! Migrations: the journal's own, followed by the service's, as one numbered history.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The journal's own. A service numbers its own from 1001.
const JOURNAL: [(i64, &str, &str); 2] = [
    (1, "journal", include_str!("../migrations/0001_journal.sql")),
    (2, "keys", include_str!("../migrations/0002_keys.sql")),
];

/// The journal's migrations and the service's, given as (version, name, SQL).
pub fn migrator(service: &[(i64, &'static str, &'static str)]) -> Migrator {
    let make = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(JOURNAL.iter().chain(service).copied().map(make).collect())
}
