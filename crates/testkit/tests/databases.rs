//! Each test gets its own migrated database, with the privileges of the service's roles.

use std::time::Duration;

use journal::migrations::migrator;
use local::Service;
use sqlx::{Connection, PgConnection, Row};
use testkit::{TestCluster, TestDatabase, eventually};

/// A service's first migration.
const TABLE: [(i64, &str, &str); 1] =
    [(1001, "t", "CREATE TABLE t (n int PRIMARY KEY); GRANT SELECT, INSERT ON t TO mainstay_order")];

#[tokio::test]
async fn every_test_gets_its_own_migrated_database() {
    let migrator = migrator(&TABLE);
    let (one, other) = tokio::join!(
        TestDatabase::new(Service::Order, &migrator),
        TestDatabase::new(Service::Order, &migrator)
    );
    for database in [one.unwrap(), other.unwrap()] {
        let mut serving = PgConnection::connect(database.serving_url()).await.unwrap();
        sqlx::query("INSERT INTO t VALUES (1)")
            .execute(&mut serving)
            .await
            .expect("the row of the other database must not be in this one");
        let refused = sqlx::query("CREATE TABLE u ()").execute(&mut serving).await.unwrap_err();
        assert!(refused.to_string().contains("permission denied"), "{refused}");
        let mut admin = PgConnection::connect_with(&database.admin()).await.unwrap();
        let tables = sqlx::query("SELECT count(*) FROM pg_tables WHERE tablename IN ('t', 'journal')");
        assert_eq!(tables.fetch_one(&mut admin).await.unwrap().get::<i64, _>(0), 2);
    }
}

#[tokio::test]
async fn a_dropped_database_is_removed_despite_open_sessions() {
    let database = TestDatabase::new(Service::Order, &migrator(&TABLE)).await.unwrap();
    let name = database.name().to_owned();
    let session = PgConnection::connect(database.serving_url()).await.unwrap();
    drop(database);
    let cluster = TestCluster::get().await.unwrap();
    let admin = cluster.admin("postgres");
    eventually("the database is gone", Duration::from_secs(20), || async {
        let mut admin = PgConnection::connect_with(&admin).await?;
        let count = sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE datname = $1").bind(&name);
        match count.fetch_one(&mut admin).await? {
            0_i64 => Ok(()),
            left => anyhow::bail!("{left} left"),
        }
    })
    .await;
    drop(session);
}
