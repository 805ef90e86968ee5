//! Tests of the limits that the schema enforces without the code.

use std::time::Duration;

use inventory_service::app::CommandError;
use inventory_service::store;
use journal::DatabaseError;
use journal::database::Limits;
use sqlx::{AssertSqlSafe, Connection, Executor as _, PgConnection, SqlSafeStr as _};
use uuid::Uuid;

use crate::support::{Stage, app, ask};

async fn refused(connection: &mut PgConnection, statement: &str) -> String {
    let error = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await.unwrap_err();
    error.as_database_error().unwrap().code().unwrap().into_owned()
}

#[tokio::test]
async fn the_serving_role_can_neither_change_entries_nor_change_the_schema() {
    let stage = Stage::with(&[("a", 1)]).await;
    let mut serving = PgConnection::connect_with(&stage.options).await.unwrap();
    for statement in [
        "UPDATE journal SET version = version",
        "DELETE FROM journal",
        "TRUNCATE journal",
        "ALTER TABLE journal DISABLE TRIGGER ALL",
        "DROP TABLE journal",
        "INSERT INTO transitions VALUES ('reservation', 'confirmed', 'held')",
        "UPDATE transitions SET to_state = 'held'",
        "DELETE FROM transitions",
        "DELETE FROM items",
        "DELETE FROM reservations",
        "TRUNCATE items, reservations",
        "TRUNCATE idempotency",
        "UPDATE _sqlx_migrations SET version = 0",
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE INDEX mine ON items (name)",
        "ALTER TABLE items ADD COLUMN mine int",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA mine",
        "SET ROLE mainstay_inventory_owner",
        "CREATE ROLE mine",
        "SELECT nextval('journal_seq_seq')",
        "INSERT INTO journal_clusters (epoch, history_end) VALUES (9, 9)",
    ] {
        assert_eq!(refused(&mut serving, statement).await, "42501", "{statement}");
    }
    let granted: Vec<String> = sqlx::query_scalar(
        "SELECT table_name || ' ' || privilege_type FROM information_schema.role_table_grants
         WHERE grantee IN ('mainstay_inventory', 'PUBLIC') AND table_schema = 'public' ORDER BY 1",
    )
    .fetch_all(&stage.admin)
    .await
    .unwrap();
    let expected = [
        "_sqlx_migrations SELECT",
        "idempotency DELETE",
        "idempotency INSERT",
        "idempotency SELECT",
        "idempotency UPDATE",
        "items INSERT",
        "items SELECT",
        "items UPDATE",
        "journal SELECT",
        "journal_clusters SELECT",
        "reservations INSERT",
        "reservations SELECT",
        "reservations UPDATE",
        "transitions SELECT",
    ];
    assert_eq!(granted, expected);
}

#[tokio::test]
async fn the_owner_role_cannot_change_entries_while_the_triggers_are_on() {
    let stage = Stage::with(&[("a", 1)]).await;
    let mut owner = stage.admin.acquire().await.unwrap();
    owner.execute("SET ROLE mainstay_inventory_owner").await.unwrap();
    for statement in ["UPDATE journal SET version = version", "DELETE FROM journal", "TRUNCATE journal"] {
        assert_eq!(refused(&mut owner, statement).await, "42501", "{statement}");
    }
}

#[tokio::test]
async fn stock_below_the_held_pieces_and_illegal_moves_cannot_be_written() {
    let stage = Stage::with(&[("a", 1)]).await;
    let id = stage.hold(&[("a", 1)]).await;
    let mut admin = stage.admin.acquire().await.unwrap();
    for statement in [
        "UPDATE items SET held = -1",
        "UPDATE items SET on_hand = 0",
        "UPDATE items SET held = 2",
        "UPDATE reservations SET expires_at = NULL",
        "UPDATE reservations SET status = 'lost'",
    ] {
        assert_eq!(refused(&mut admin, statement).await, "23514", "{statement}");
    }
    let skipped = format!(
        "INSERT INTO journal (id, aggregate_kind, aggregate_id, version, from_state, to_state, correlation_id, body, hash)
         VALUES ('{id}', 'reservation', '{id}', 2, 'confirmed', 'held', 'c', '', decode(repeat('00', 32), 'hex'))"
    );
    assert_eq!(refused(&mut admin, &skipped).await, "23503", "no such move");
}

#[tokio::test]
async fn the_database_accepts_every_statement_from_the_serving_role() {
    let stage = Stage::new().await;
    let mut serving = PgConnection::connect_with(&stage.options).await.unwrap();
    for (name, statement) in store::statements() {
        let prepared = (&mut serving).prepare(statement.into_sql_str()).await;
        assert!(prepared.is_ok(), "{name}: {}", prepared.err().unwrap());
        // EXPLAIN makes a plan, which checks the permissions too.
        let parameters = statement.matches('$').count();
        let nulls = (1..=parameters)
            .rev()
            .fold(statement.to_owned(), |text, n| text.replace(&format!("${n}"), "NULL"));
        let explained = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN {nulls}"))).execute(&mut serving).await;
        assert!(explained.is_ok(), "{name}: {}", explained.err().unwrap());
    }
}

#[tokio::test]
async fn migrations_may_run_again() {
    let stage = Stage::new().await;
    let mut owner = stage.admin.acquire().await.unwrap();
    owner.execute("SET ROLE mainstay_inventory_owner").await.unwrap();
    journal::migrations::migrator(&store::MIGRATIONS).run(&mut *owner).await.unwrap();
}

#[tokio::test]
async fn without_a_database_a_command_fails_as_not_executed() {
    let stage = Stage::new().await;
    let nowhere = app(
        &stage.options.clone().port(1),
        Limits { acquire: Duration::from_millis(50), ..Limits::default() },
    );
    let command = crate::support::reserve(Uuid::now_v7(), &[("a", 1)]);
    let error = nowhere.reserve(ask(), command).await.unwrap_err();
    assert!(
        matches!(error, CommandError::NotExecuted(DatabaseError::Unavailable(_) | DatabaseError::Busy(_))),
        "{error:?}"
    );
}
