#![doc = include_str!("../README.md")]

#[cfg(feature = "postgres")]
mod claim;
mod fingerprint;
mod key;
mod reply;
#[cfg(feature = "postgres")]
mod retention;
#[cfg(feature = "axum")]
mod web;

#[cfg(feature = "postgres")]
pub use claim::{Claim, Claimed, KeyRow, claim, claim_or_find, complete, find, record};
pub use fingerprint::FingerprintHasher;
pub use key::{IdempotencyKey, InvalidKey, KeyHash};
pub use reply::StoredReply;
#[cfg(feature = "postgres")]
pub use retention::{
    DELETE, Deletion, FIND_EXPIRED, RETENTION_DAYS, Resume, Retention, delete_expired, delete_expired_batch,
};
#[cfg(feature = "axum")]
pub use web::IDEMPOTENT_REPLAYED;

#[cfg(feature = "postgres")]
/// SQL that creates the table `idempotency`, for a service that runs its own migrations.
pub const SCHEMA: &str = include_str!("../migrations/0001_idempotency.sql");

#[cfg(feature = "postgres")]
/// Creates the table `idempotency`, if the migration has not run yet. Its history is in the table
/// `idempotency_migrations`, apart from the service's own.
pub async fn migrate(connection: &mut sqlx::PgConnection) -> Result<(), sqlx::migrate::MigrateError> {
    use sqlx::SqlSafeStr;
    use sqlx::migrate::{Migration, MigrationType, Migrator};
    let first = Migration::new(1, "idempotency".into(), MigrationType::Simple, SCHEMA.into_sql_str(), false);
    let mut migrator = Migrator::with_migrations(vec![first]);
    migrator.table_name = "idempotency_migrations".into();
    migrator.run_direct(None, connection, false).await
}
