//! Migrations of the journal, followed by those of the service, as one numbered history.

use std::borrow::Cow;

use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{PgConnection, SqlSafeStr};

use crate::cluster::{self, Restored};

/// The first number of a service's own migrations.
const FIRST_OF_SERVICE: i64 = 1001;

/// Requests that come to a table after a migration wait behind the migration's wait for the table's lock. So a migration gives up
/// before most of their deadlines, and can be run again.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '2s'";

/// Migrations of the journal.
const JOURNAL: [(i64, &str, &str); 3] = [
    (1, "journal", include_str!("../migrations/0001_journal.sql")),
    (2, "keys", include_str!("../migrations/0002_keys.sql")),
    (3, "clusters", include_str!("../migrations/0003_clusters.sql")),
];

/// Migrations of the journal and of the service, given as (version, name, SQL).
pub fn migrator(service: &[(i64, &'static str, &'static str)]) -> Migrator {
    let make = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(JOURNAL.iter().chain(service).copied().map(make).collect())
}

/// Result of [`run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// Relation of the schema to this release.
    pub schema: Schema,
    /// Mark of a restore, if the journal has come from another cluster since the last run.
    pub restored: Option<Restored>,
}

/// Relation of a schema to this release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// The schema is that of this release, with this newest version.
    Current(i64),
    /// A later release has expanded the schema, up to this version. It was not changed.
    Newer(i64),
}

/// Reasons why a schema cannot be brought to this release.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A migration was edited after it had been applied.
    #[error(
        "version {0} was applied with another text than this release has: a migration was edited after its \
         release; install the release that applied it, or restore the file"
    )]
    Changed(i64),
    /// A later version was applied without an earlier one.
    #[error("version {later} was applied and version {missing}, which comes before it, was not")]
    Missing {
        /// Version that is missing.
        missing: i64,
        /// Version that was applied.
        later: i64,
    },
    /// The schema lacks a version of this release and has an unknown one.
    #[error(
        "the schema is of another line of releases: it has version {unknown}, which this release does not know, and \
         lacks version {missing}, which this release needs"
    )]
    Diverged {
        /// Version of the schema that this release does not know.
        unknown: i64,
        /// Version of this release that the schema lacks.
        missing: i64,
    },
    /// The schema has a version that this release skips.
    #[error(
        "the schema has version {0}, which this release does not know and which comes before one that it knows"
    )]
    Unknown(i64),
    /// A migration failed, or the database did.
    #[error("rolled back: {0}")]
    Failed(#[from] MigrateError),
    /// The session could not be prepared, or the cluster not recorded.
    #[error("the database refused: {0}")]
    Database(#[from] sqlx::Error),
}

/// Migrates the schema to this release as the role that owns it, unless a later release has expanded it, and records the cluster
/// that the journal lives in. Concurrent runs wait for each other.
pub async fn run(migrator: &Migrator, connection: &mut PgConnection) -> Result<Migrated, MigrationError> {
    // A lock of the session, which `run_direct` takes a second time. It ends with the session at the latest.
    connection.lock().await?;
    sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *connection).await?;
    connection.ensure_migrations_table(&migrator.table_name).await?;
    let applied = connection.list_applied_migrations(&migrator.table_name).await?;
    let schema = if let Some(version) = newer(&applied, migrator)? {
        Schema::Newer(version)
    } else {
        migrator.run_direct(None, connection, false).await?;
        Schema::Current(migrator.iter().map(|migration| migration.version).max().unwrap_or(0))
    };
    let restored = cluster::mark(connection).await?;
    connection.unlock().await?;
    Ok(Migrated { schema, restored })
}

/// The newest version of a schema that a later release has expanded, and `None` for other schemas.
fn newer(applied: &[AppliedMigration], release: &Migrator) -> Result<Option<i64>, MigrationError> {
    for migration in release.iter() {
        let same = applied.iter().find(|applied| applied.version == migration.version);
        if same.is_some_and(|applied| applied.checksum != migration.checksum) {
            return Err(MigrationError::Changed(migration.version));
        }
    }
    let is_applied = |version| applied.iter().any(|applied| applied.version == version);
    let missing = release.iter().map(|m| m.version).find(|version| !is_applied(*version));
    let newest_unknown = applied.iter().map(|a| a.version).rfind(|version| !release.version_exists(*version));
    if let Some((missing, unknown)) = missing.zip(newest_unknown) {
        return Err(MigrationError::Diverged { unknown, missing });
    }
    for migration in release.iter().filter(|migration| !is_applied(migration.version)) {
        let missing = migration.version;
        let later = applied.iter().find(|a| is_same_history(a.version, missing) && a.version > missing);
        if let Some(later) = later {
            return Err(MigrationError::Missing { missing, later: later.version });
        }
    }
    for unknown in applied.iter().map(|a| a.version).filter(|version| !release.version_exists(*version)) {
        if release.iter().any(|m| is_same_history(m.version, unknown) && m.version > unknown) {
            return Err(MigrationError::Unknown(unknown));
        }
    }
    Ok(newest_unknown)
}

/// Returns whether both versions are of the journal or both of the service. Each of the two histories grows at its end.
fn is_same_history(one: i64, other: i64) -> bool {
    (one < FIRST_OF_SERVICE) == (other < FIRST_OF_SERVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Migrator {
        migrator(&[(1001, "a", "SELECT 1"), (1003, "b", "SELECT 2")])
    }

    fn applied(versions: &[i64]) -> Vec<AppliedMigration> {
        let checksum = |version| {
            let release = release();
            let known = release.iter().find(|m| m.version == version).map(|m| m.checksum.clone());
            known.unwrap_or(Cow::Borrowed(b"later"))
        };
        versions.iter().map(|&version| AppliedMigration { version, checksum: checksum(version) }).collect()
    }

    #[test]
    fn a_schema_that_a_later_release_has_expanded_is_newer_in_either_history() {
        for (schema, is_newer) in [
            (&[][..], None),
            (&[1, 2, 1001], None),
            (&[1, 2, 3, 1001, 1003], None),
            (&[1, 2, 3, 1001, 1003, 1004], Some(1004)),
            (&[1, 2, 3, 4, 1001, 1003], Some(4)),
        ] {
            assert_eq!(newer(&applied(schema), &release()).unwrap(), is_newer, "{schema:?}");
        }
    }

    #[test]
    fn a_schema_of_another_line_is_refused_with_its_versions() {
        for (schema, message) in [
            (&[1, 2, 1001, 1003, 1004][..], "lacks version 3"),
            (&[1, 2, 3, 1003], "version 1001, which comes before it"),
            (&[1, 2, 3, 1001, 1002, 1003], "version 1002, which this release does not know"),
        ] {
            let refused = newer(&applied(schema), &release()).unwrap_err().to_string();
            assert!(refused.contains(message), "{schema:?}: {refused}");
        }
        let mut edited = applied(&[1, 2, 3, 1001, 1003]);
        edited[1].checksum = Cow::Borrowed(b"edited");
        assert!(matches!(newer(&edited, &release()), Err(MigrationError::Changed(2))));
        edited.extend(applied(&[1004]));
        assert!(matches!(newer(&edited, &release()), Err(MigrationError::Changed(2))), "newer or not");
    }
}
