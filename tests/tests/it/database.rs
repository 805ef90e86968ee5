//! Tests of a database that refuses writes or logins for a while, and of a schema that a later release has expanded.

use std::time::Duration;

use crate::support::{RESOLVED, order, pair, problem, setup};
use local::Service;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::eventually;
use testkit::pair::TestPair;
use tokio::time::Instant;

/// Bound on the time until an order succeeds after its database takes writes again.
const RECOVERED: Duration = Duration::from_secs(2);

async fn execute(pair: &TestPair, statement: &str) {
    let mut admin = PgConnection::connect_with(&pair.postgres().admin("postgres")).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut admin).await.unwrap();
}

async fn end_sessions(pair: &TestPair, service: Service) {
    let role = service.serving_role();
    execute(
        pair,
        &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"),
    )
    .await;
}

/// HTTP status of a service's `/readyz`, and the condition `name` of its body.
async fn condition(pair: &TestPair, service: Service, name: &str) -> (u16, Value) {
    let reply = pair.ops(service, 0).get("/readyz").send().await.unwrap();
    let conditions = reply.json()["conditions"].clone();
    let found = conditions.as_array().unwrap().iter().find(|condition| condition["name"] == name).cloned();
    (reply.status.as_u16(), found.unwrap_or_default())
}

/// Sends orders until a reply has this status, and gives the time that it took.
async fn until_answered(pair: &TestPair, status: u16, within: Duration) -> Duration {
    let began = Instant::now();
    eventually(&format!("an order is answered {status}"), within, async || {
        let reply = order(pair, &[("A", 1)]).send().await.unwrap();
        if reply.status.as_u16() == status { Ok(()) } else { Err(reply.to_string()) }
    })
    .await;
    began.elapsed()
}

#[tokio::test]
async fn orders_are_placed_again_two_seconds_after_the_database_was_read_only() {
    let pair = setup().own_postgres().start().await.unwrap();
    pair.stock("A", 100_000).await;
    // The reply while a database is read-only: refused for the order service's database, undecided for inventory's.
    for (service, meanwhile) in [(Service::Order, 503), (Service::Inventory, 202)] {
        until_answered(&pair, 201, RESOLVED).await;
        let role = service.serving_role();
        execute(&pair, &format!("ALTER ROLE {role} SET default_transaction_read_only = on")).await;
        end_sessions(&pair, service).await;
        until_answered(&pair, meanwhile, RESOLVED).await;
        if service == Service::Order {
            let refused = order(&pair, &[("A", 1)]).send().await.unwrap();
            assert_eq!(problem(&refused), "unavailable");
            assert_eq!(refused.header("x-outcome"), "not-executed");
            assert_eq!(refused.json()["detail"], "the database is read-only");
        }
        let (status, database) = condition(&pair, service, "database").await;
        assert_eq!(status, 503, "{database}");
        assert!(database["detail"].as_str().unwrap().starts_with("read-only"), "{database}");

        execute(&pair, &format!("ALTER ROLE {role} RESET default_transaction_read_only")).await;
        let took = until_answered(&pair, 201, RECOVERED).await;
        println!("{service}: an order {took:?} after the episode");
        assert_eq!(condition(&pair, service, "database").await.0, 200);
    }
    crate::support::sound(&pair).await;
}

#[tokio::test]
async fn a_refused_database_login_is_reported_as_unavailable_and_not_executed() {
    let pair = setup().own_postgres().start().await.unwrap();
    pair.stock("A", 100).await;
    execute(&pair, "ALTER ROLE mainstay_order NOLOGIN").await;
    end_sessions(&pair, Service::Order).await;
    let refused = order(&pair, &[("A", 1)]).send().await.unwrap();
    assert_eq!((refused.status.as_u16(), &*problem(&refused)), (503, "unavailable"), "{refused}");
    assert_eq!(refused.header("x-outcome"), "not-executed");
    assert_eq!(refused.json()["detail"], "the database refuses this service's login");
    let (status, database) = condition(&pair, Service::Order, "database").await;
    assert_eq!((status, &database["detail"]), (503, &Value::from("refuses this service's login")));
    execute(&pair, "ALTER ROLE mainstay_order LOGIN").await;
    until_answered(&pair, 201, RECOVERED).await;
    crate::support::sound(&pair).await;
}

#[tokio::test]
async fn migrate_leaves_a_newer_schema_unchanged_and_the_service_serves_on_it() {
    let pair = pair().await;
    let programs = pair_tests::programs(env!("CARGO_BIN_EXE_pair"));
    for (service, command) in [(Service::Order, programs.order), (Service::Inventory, programs.inventory)] {
        let migrate = async || {
            let mut migrate = tokio::process::Command::new(&command[0]);
            migrate.args(&command[1..]).arg("migrate");
            migrate.env("MIGRATION_DATABASE_URL", pair.database(service).owner_url()).output().await.unwrap()
        };
        let mut owner = PgConnection::connect(pair.database(service).owner_url()).await.unwrap();
        let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
            VALUES (1999, 'later', true, 'x', 0)";
        sqlx::query(later).execute(&mut owner).await.unwrap();
        let done = migrate().await;
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{service}: {done:?}");
        assert_eq!(said.trim(), "the schema is newer than this release (version 1999), nothing to do");
        let (status, schema) = condition(&pair, service, "schema").await;
        assert_eq!((status, &schema["ok"]), (200, &Value::Bool(true)));
        assert_eq!(schema["detail"], "is newer than this release: version 1999");

        let edited = "UPDATE _sqlx_migrations SET checksum = 'edited' WHERE version = 1001";
        sqlx::query(edited).execute(&mut owner).await.unwrap();
        let refused = migrate().await;
        let complaint = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && complaint.contains("version 1001 was applied with another text")
        );
    }
    assert_eq!(order(&pair, &[("A", 1)]).send().await.unwrap().status.as_u16(), 201);
}
