//! Roles and databases against a real PostgreSQL.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside what clippy takes for a test")]

use local::provision::{DatabaseUrls, database, roles};
use local::{Postgres, PostgresOptions, Service};
use sqlx::{Connection, PgConnection};

struct Pair {
    postgres: Postgres,
    order: DatabaseUrls,
    inventory: DatabaseUrls,
}

async fn urls(postgres: &Postgres, service: Service) -> DatabaseUrls {
    let admin = postgres.connect_options("postgres");
    let passwords = roles(&admin, service).await.unwrap();
    database(&admin, service, service.serving_role(), &passwords).await.unwrap()
}

async fn pair() -> Pair {
    let postgres = Postgres::start(PostgresOptions::for_tests()).await.unwrap();
    let (order, inventory) =
        tokio::join!(urls(&postgres, Service::Order), urls(&postgres, Service::Inventory));
    Pair { postgres, order, inventory }
}

/// Runs statements in their own session and returns the SQLSTATE of a refusal.
async fn run(url: &str, sql: &'static str) -> Result<(), String> {
    let code = |error: sqlx::Error| error.as_database_error().unwrap().code().unwrap().into_owned();
    let mut connection = PgConnection::connect(url).await.map_err(code)?;
    sqlx::raw_sql(sql).execute(&mut connection).await.map_err(code).map(drop)
}

const INSUFFICIENT_PRIVILEGE: &str = "42501";
const INVALID_PASSWORD: &str = "28P01";

fn swap_database(url: &str, from: &str, to: &str) -> String {
    let swapped = url.replace(&format!("/{from}?"), &format!("/{to}?"));
    assert_ne!(swapped, url);
    swapped
}

#[tokio::test]
async fn the_owner_migrates_and_the_serving_role_only_uses_what_it_is_granted() {
    let pair = pair().await;
    let DatabaseUrls { owner, serving } = &pair.order;
    run(owner, "CREATE TABLE t (n int); GRANT SELECT, INSERT ON t TO mainstay_order").await.unwrap();
    run(serving, "INSERT INTO t VALUES (1); SELECT * FROM t").await.unwrap();
    for refused in [
        "UPDATE t SET n = 2",
        "DELETE FROM t",
        "TRUNCATE t",
        "DROP TABLE t",
        "ALTER TABLE t ADD COLUMN m int",
        "CREATE TABLE u ()",
        "CREATE TEMPORARY TABLE u ()",
        "CREATE SCHEMA s",
        "CREATE ROLE r",
        "CREATE DATABASE d",
        "SET ROLE mainstay_order_owner",
    ] {
        assert_eq!(run(serving, refused).await, Err(INSUFFICIENT_PRIVILEGE.to_owned()), "{refused}");
    }
    pair.postgres.stop().await.unwrap();
}

#[tokio::test]
async fn neither_service_can_connect_to_the_others_database() {
    let pair = pair().await;
    for (urls, own, other) in [
        (&pair.order, "mainstay_order", "mainstay_inventory"),
        (&pair.inventory, "mainstay_inventory", "mainstay_order"),
    ] {
        for url in [&urls.owner, &urls.serving] {
            run(url, "SELECT 1").await.unwrap();
            let refused = run(&swap_database(url, own, other), "SELECT 1").await;
            assert_eq!(refused, Err(INSUFFICIENT_PRIVILEGE.to_owned()));
        }
    }
    pair.postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_run_keeps_the_data_changes_the_passwords_and_repairs_the_rights() {
    let pair = pair().await;
    run(&pair.order.owner, "CREATE TABLE kept (); GRANT SELECT ON kept TO mainstay_order").await.unwrap();
    run(
        &pair.postgres.url("mainstay_order"),
        "GRANT CONNECT ON DATABASE mainstay_order TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC",
    )
    .await
    .unwrap();

    let again = urls(&pair.postgres, Service::Order).await;
    run(&again.serving, "SELECT FROM kept").await.unwrap();
    assert_eq!(run(&pair.order.serving, "SELECT 1").await, Err(INVALID_PASSWORD.to_owned()));
    assert_eq!(run(&again.serving, "CREATE TABLE t ()").await, Err(INSUFFICIENT_PRIVILEGE.to_owned()));
    let inventory = swap_database(&pair.inventory.serving, "mainstay_inventory", "mainstay_order");
    assert_eq!(run(&inventory, "SELECT 1").await, Err(INSUFFICIENT_PRIVILEGE.to_owned()));
    pair.postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_clone_of_a_template_has_the_rights_of_the_template() {
    let pair = pair().await;
    run(&pair.order.owner, "CREATE TABLE t (); GRANT SELECT ON t TO mainstay_order").await.unwrap();
    run(&pair.postgres.url("postgres"), "CREATE DATABASE clone TEMPLATE mainstay_order").await.unwrap();

    let admin = pair.postgres.connect_options("postgres");
    let passwords = roles(&admin, Service::Order).await.unwrap();
    let clone = database(&admin, Service::Order, "clone", &passwords).await.unwrap();
    run(&clone.serving, "SELECT FROM t").await.unwrap();
    run(&clone.owner, "DROP TABLE t").await.unwrap();
    let inventory = swap_database(&pair.inventory.serving, "mainstay_inventory", "clone");
    assert_eq!(run(&inventory, "SELECT 1").await, Err(INSUFFICIENT_PRIVILEGE.to_owned()));
    pair.postgres.stop().await.unwrap();
}

#[tokio::test]
async fn an_administrator_without_superuser_rights_is_enough() {
    let postgres = Postgres::start(PostgresOptions::for_tests()).await.unwrap();
    run(&postgres.url("postgres"), "CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD 'admin'")
        .await
        .unwrap();
    let admin = postgres.connect_options("postgres").username("admin").password("admin");
    for _twice in 0..2 {
        let passwords = roles(&admin, Service::Order).await.unwrap();
        let urls = database(&admin, Service::Order, "mainstay_order", &passwords).await.unwrap();
        run(&urls.serving, "SELECT 1").await.unwrap();
    }
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn concurrent_runs_wait_for_each_other() {
    let postgres = Postgres::start(PostgresOptions::for_tests()).await.unwrap();
    let admin = postgres.connect_options("postgres");
    let runs = (0..8).map(|_| {
        let admin = admin.clone();
        tokio::spawn(async move { roles(&admin, Service::Order).await })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap().unwrap();
    }
    postgres.stop().await.unwrap();
}
