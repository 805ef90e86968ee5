//! Sessions of the pool that can no longer do what is asked of them, and rows that only seem to say so.

use std::time::Duration;

use crate::support::{behind_proxy, insert, lamps, light, serving};
use futures_util::future::join_all;
use journal::database::Limits;
use journal::{Database, DatabaseError, Step};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::proxy::{Direction, Flow};
use testkit::{TestDatabase, eventually};
use uuid::Uuid;

const SESSIONS: usize = 4;

const FEW: Limits = Limits {
    connections: 4,
    acquire: Duration::from_secs(5),
    statement: Duration::from_secs(5),
    lock: Duration::from_secs(1),
    transaction: Duration::from_secs(5),
};

async fn admin(test: &TestDatabase, statement: &str) {
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut admin).await.unwrap();
}

/// The processes of `SESSIONS` sessions, all of them in use at the same time.
async fn processes(database: &Database) -> Vec<i32> {
    let one = || {
        database.read(None, (), |connection, ()| {
            let query = "SELECT pg_backend_pid() FROM pg_sleep(0.2)";
            Box::pin(sqlx::query_scalar::<_, i32>(query).fetch_one(connection))
        })
    };
    let mut pids: Vec<i32> =
        join_all((0..SESSIONS).map(|_| one())).await.into_iter().map(Result::unwrap).collect();
    pids.sort_unstable();
    pids
}

async fn read_only(test: &TestDatabase, set: &str) {
    let name = test.name();
    admin(test, &format!("ALTER ROLE mainstay_order IN DATABASE {name} {set}")).await;
}

#[tokio::test]
async fn after_a_read_only_episode_the_next_write_succeeds_and_no_session_of_it_is_used_again() {
    let test = lamps().await;
    let database = serving(&test, FEW);
    read_only(&test, "SET default_transaction_read_only = on").await;
    let of_the_episode = processes(&database).await;
    read_only(&test, "RESET default_transaction_read_only").await;
    light(&database, Uuid::now_v7()).await.unwrap();
    let since = processes(&database).await;
    assert!(since.iter().all(|pid| !of_the_episode.contains(pid)), "{since:?} of {of_the_episode:?}");
}

#[tokio::test]
async fn a_database_that_is_read_only_is_unavailable_and_said_to_fail_until_a_write_succeeds() {
    let test = lamps().await;
    let database = serving(&test, FEW);
    read_only(&test, "SET default_transaction_read_only = on").await;
    for before in [None, None, None, Some("is read-only")] {
        assert_eq!(database.failing(), before, "fewer than three may be their own fault");
        let refused = light(&database, Uuid::now_v7()).await.unwrap_err();
        assert!(matches!(refused, DatabaseError::Unavailable(_)), "{refused:?}");
        assert_eq!(refused.condition(), Some("is read-only"));
    }
    read_only(&test, "RESET default_transaction_read_only").await;
    light(&database, Uuid::now_v7()).await.unwrap();
    assert_eq!(database.failing(), None);
}

#[tokio::test]
async fn prepared_statements_that_are_gone_are_prepared_again_on_a_new_session() {
    let test = lamps().await;
    let database = serving(&test, Limits { connections: 1, ..FEW });
    light(&database, Uuid::now_v7()).await.unwrap();
    let forget =
        database.read(None, (), |connection, ()| Box::pin(sqlx::raw_sql("DISCARD ALL").execute(connection)));
    forget.await.unwrap();
    light(&database, Uuid::now_v7()).await.unwrap();
}

#[tokio::test]
async fn a_plan_that_the_schema_has_outgrown_is_made_again_on_a_new_session() {
    let test = lamps().await;
    let database = serving(&test, Limits { connections: 1, ..FEW });
    let rows = async || {
        let read = database.read(None, (), |connection, ()| {
            Box::pin(sqlx::query("SELECT * FROM lamps").fetch_all(connection))
        });
        read.await.map(|rows| rows.len())
    };
    light(&database, Uuid::now_v7()).await.unwrap();
    assert_eq!(rows().await.unwrap(), 1);
    admin(&test, "ALTER TABLE lamps ADD COLUMN colour text").await;
    assert_eq!(rows().await.unwrap(), 1);
}

#[tokio::test]
async fn settings_of_the_planner_are_opt_in() {
    let test = lamps().await;
    let options: sqlx::postgres::PgConnectOptions = test.serving_url().parse().unwrap();
    for (database, expected) in [
        (Database::new(options.clone(), FEW), ["on", "auto"]),
        (Database::keyed(options, FEW), ["off", "force_generic_plan"]),
    ] {
        let settings = database.read(None, (), |connection, ()| {
            let query = "SELECT current_setting('enable_seqscan'), current_setting('plan_cache_mode')";
            Box::pin(sqlx::query_as::<_, (String, String)>(query).fetch_one(connection))
        });
        let (scan, plans) = settings.await.unwrap();
        assert_eq!([scan, plans], expected);
    }
}

#[tokio::test]
async fn a_search_path_of_the_role_hides_no_table() {
    let test = lamps().await;
    read_only(&test, "SET search_path = nowhere").await;
    light(&serving(&test, FEW), Uuid::now_v7()).await.unwrap();
}

#[tokio::test]
async fn a_login_that_is_refused_is_an_unavailable_database_and_no_defect() {
    let test = lamps().await;
    let options: sqlx::postgres::PgConnectOptions = test.serving_url().parse().unwrap();
    for (options, what) in [
        (options.clone().password("wrong"), "refuses this service's login"),
        (options.clone().database("nowhere"), "does not exist"),
        (options.clone().port(1), "cannot be reached"),
        (options, "refuses this service's login"),
    ] {
        if what == "cannot be reached" {
            // For the one after it, whose password is right.
            let revoke = format!("REVOKE CONNECT ON DATABASE {} FROM mainstay_order", test.name());
            admin(&test, &revoke).await;
        }
        let refused = light(&Database::keyed(options, FEW), Uuid::now_v7()).await.unwrap_err();
        assert!(matches!(refused, DatabaseError::Unavailable(_)), "{refused:?}");
        assert_eq!(refused.condition(), Some(what));
    }
}

#[tokio::test]
async fn a_server_that_answers_nobody_is_unavailable_and_not_overloaded() {
    let test = lamps().await;
    let limits = Limits { connections: 1, acquire: Duration::from_millis(100), ..FEW };
    let (database, proxy) = behind_proxy(&test, limits).await;
    eventually("a session", FEW.transaction, || light(&database, Uuid::now_v7())).await;
    proxy.flow(Direction::Down, Flow::Freeze);
    let (_, ()) = tokio::join!(light(&database, Uuid::now_v7()), async {
        eventually("the pool says so", FEW.transaction, async || {
            light(&database, Uuid::now_v7()).await.unwrap_err().condition() == Some("does not answer")
        })
        .await;
    });
}

#[tokio::test]
async fn a_row_that_is_refused_costs_no_session() {
    let test = lamps().await;
    let database = serving(&test, FEW);
    // A trigger that speaks as a read-only session does, of one row alone.
    admin(
        &test,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.version = 666 THEN RAISE EXCEPTION 'not this one' USING ERRCODE = '25006'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON lamps FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let id = Uuid::now_v7();
    light(&database, id).await.unwrap();
    let before = processes(&database).await;

    let again = database.transaction(None, id, |connection, &id| {
        Box::pin(async move { insert(connection, id).await.map(Step::Commit) })
    });
    assert!(matches!(again.await, Err(DatabaseError::Defect(_))));
    assert_eq!(processes(&database).await, before, "a row that is there already says nothing of its session");

    let bad = database.transaction(None, (), |connection, ()| {
        let insert = "INSERT INTO lamps VALUES (gen_random_uuid(), 666)";
        Box::pin(async move { sqlx::query(insert).execute(connection).await.map(|_| Step::Commit(())) })
    });
    assert!(matches!(bad.await, Err(DatabaseError::Unavailable(_))));
    let after = processes(&database).await;
    let kept = after.iter().filter(|pid| before.contains(pid)).count();
    // The one that failed and the one whose place the new one took.
    assert_eq!(kept, SESSIONS - 2, "a new session has failed as well, so the others are not at fault");
}
