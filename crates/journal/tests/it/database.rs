//! Transactions: what is acknowledged survives, and what is not known is said to be.

use std::time::Duration;

use crate::support::{behind_proxy, insert, lamps, light, serving};
use journal::database::Limits;
use journal::{DatabaseError, Step};
use sqlx::{Connection, PgConnection};
use testkit::proxy::{Cut, Direction, Flow};
use testkit::{cut_after, eventually};
use tokio::time::Instant;
use uuid::Uuid;

async fn count(connection: &mut PgConnection, id: Uuid) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM lamps l JOIN journal j ON j.aggregate_id = l.id WHERE l.id = $1")
        .bind(id)
        .fetch_one(connection)
        .await
        .unwrap()
}

/// One connection, so that whatever a dropped transaction leaves behind is what the next one gets.
const ONE: Limits = Limits {
    connections: 1,
    acquire: Duration::from_secs(5),
    statement: Duration::from_secs(5),
    lock: Duration::from_millis(200),
    transaction: Duration::from_secs(5),
};

#[tokio::test]
async fn dropping_a_transaction_at_any_await_loses_no_acknowledged_write() {
    let test = lamps().await;
    // In this same thread: it stands still while a transaction is being polled, so that every answer of the server
    // has to be waited for, and every await is a place to leave.
    let (database, _proxy) = behind_proxy(&test, ONE).await;
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    let mut polls = 0;
    loop {
        let dropped = Uuid::now_v7();
        let finished = cut_after(polls, light(&database, dropped)).await.map(Result::unwrap).is_some();
        let acknowledged = Uuid::now_v7();
        light(&database, acknowledged).await.unwrap();
        assert_eq!(count(&mut admin, acknowledged).await, 1, "after a drop at poll {polls}");
        assert!(count(&mut admin, dropped).await <= 1);
        if finished {
            break;
        }
        polls += 1;
        assert!(polls < 300, "the transaction never finishes");
    }
    assert!(polls >= 4, "BEGIN, two statements and COMMIT are four waits, not {polls}");
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
    assert_eq!(sqlx::query_scalar::<_, i64>(open).fetch_one(&mut admin).await.unwrap(), 0);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown_and_was_done() {
    let test = lamps().await;
    let (database, proxy) = behind_proxy(&test, Limits::default()).await;
    light(&database, Uuid::now_v7()).await.unwrap();

    let id = Uuid::now_v7();
    proxy.cut_on(b"COMMIT", 0, Cut::BeforeReply);
    let error = light(&database, id).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Unknown(_)), "{error:?}");
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    assert_eq!(count(&mut admin, id).await, 1, "the write was done, and its caller got no answer");

    let id = Uuid::now_v7();
    proxy.cut_on(b"lamp.switch@1", 0, Cut::BeforeDelivery);
    let error = light(&database, id).await.unwrap_err();
    assert!(error.is_not_executed(), "{error:?}");
    assert_eq!(count(&mut admin, id).await, 0);
}

#[tokio::test]
async fn a_server_that_no_longer_answers_costs_a_bounded_wait() {
    let test = lamps().await;
    let limits = Limits { transaction: Duration::from_secs(1), acquire: Duration::from_secs(2), ..ONE };
    let (database, proxy) = behind_proxy(&test, limits).await;
    light(&database, Uuid::now_v7()).await.unwrap();
    proxy.flow(Direction::Down, Flow::Blackhole);
    let error = tokio::time::timeout(Duration::from_secs(20), light(&database, Uuid::now_v7())).await;
    assert!(error.expect("the wait has a bound").unwrap_err().is_not_executed());
    proxy.heal().await;
    eventually("the database is usable again", Duration::from_secs(20), || light(&database, Uuid::now_v7()))
        .await;
}

#[tokio::test]
async fn a_read_that_runs_out_of_time_has_done_nothing_and_is_nobodys_defect() {
    let test = lamps().await;
    let limits = Limits { transaction: Duration::from_secs(1), ..ONE };
    let (database, proxy) = behind_proxy(&test, limits).await;
    light(&database, Uuid::now_v7()).await.unwrap();
    let read = async |deadline| {
        let one = database.read(deadline, (), |connection, ()| {
            Box::pin(sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(connection))
        });
        one.await
    };
    proxy.flow(Direction::Down, Flow::Freeze);
    let soon = Instant::now() + Duration::from_millis(200);
    let late = read(Some(soon)).await;
    assert!(matches!(late, Err(DatabaseError::Deadline)), "{late:?}");
    proxy.heal().await;
    light(&database, Uuid::now_v7()).await.unwrap();
    proxy.flow(Direction::Down, Flow::Freeze);
    let silent = read(None).await;
    assert!(matches!(silent, Err(DatabaseError::Unavailable(_))), "{silent:?}");
}

#[tokio::test]
async fn what_the_server_does_for_a_read_that_was_cut_ends_with_it() {
    let test = lamps().await;
    // Far longer than the test waits, so that it is not this that ends the statement.
    let limits = Limits { statement: Duration::from_mins(5), ..Limits::default() };
    let database = serving(&test, limits);
    let soon = tokio::time::Instant::now() + Duration::from_millis(500);
    let cut = database
        .read(Some(soon), (), |connection, ()| {
            Box::pin(sqlx::query("SELECT pg_sleep(300)").execute(connection))
        })
        .await;
    assert!(matches!(cut, Err(DatabaseError::Deadline)), "{cut:?}");
    let admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    let admin = tokio::sync::Mutex::new(admin);
    eventually("the session has ended", Duration::from_secs(20), || async {
        let at_work = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'";
        let mut admin = admin.lock().await;
        sqlx::query_scalar::<_, i64>(at_work).fetch_one(&mut *admin).await.unwrap() == 0
    })
    .await;
}

#[tokio::test]
async fn connections_that_died_in_the_pool_are_replaced_without_an_error() {
    let test = lamps().await;
    let database = serving(&test, Limits::default());
    let (a, b, c) = tokio::join!(
        light(&database, Uuid::now_v7()),
        light(&database, Uuid::now_v7()),
        light(&database, Uuid::now_v7())
    );
    a.and(b).and(c).unwrap();
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    let kill = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                WHERE datname = current_database() AND usename = 'mainstay_order'";
    let killed: Vec<bool> = sqlx::query_scalar(kill).fetch_all(&mut admin).await.unwrap();
    assert!(!killed.is_empty() && killed.iter().all(|k| *k));
    for _ in 0..5 {
        light(&database, Uuid::now_v7()).await.unwrap();
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_begins_nothing() {
    let test = lamps().await;
    let database = serving(&test, ONE);
    let past = Instant::now();
    let done = database
        .transaction(Some(past), (), |connection, ()| {
            Box::pin(async move {
                insert(connection, Uuid::now_v7()).await?;
                Ok(Step::Commit(()))
            })
        })
        .await;
    assert!(matches!(done, Err(DatabaseError::Deadline)), "{done:?}");
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM lamps").fetch_one(&mut admin).await.unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn a_deadline_that_passes_while_the_server_stalls_begins_nothing() {
    let test = lamps().await;
    let (database, proxy) = behind_proxy(&test, ONE).await;
    light(&database, Uuid::now_v7()).await.unwrap();
    proxy.flow(Direction::Down, Flow::Freeze);
    let deadline = Instant::now() + Duration::from_millis(100);
    let begins = std::cell::Cell::new(false);
    let work = database.transaction(Some(deadline), &begins, |connection, begins| {
        begins.set(true);
        Box::pin(async move { insert(connection, Uuid::now_v7()).await.map(Step::Commit) })
    });
    let thaw = async {
        tokio::time::sleep_until(deadline).await;
        proxy.heal().await;
    };
    let (done, ()) = tokio::join!(work, thaw);
    assert!(matches!(done, Err(DatabaseError::Deadline)), "{done:?}");
    assert!(!begins.get());
    light(&database, Uuid::now_v7()).await.unwrap();
}

#[tokio::test]
async fn a_deadline_that_passes_during_the_work_leaves_nothing() {
    let test = lamps().await;
    let database = serving(&test, ONE);
    let id = Uuid::now_v7();
    let deadline = Instant::now() + Duration::from_millis(200);
    let work = database.transaction(Some(deadline), id, |connection, &id| {
        Box::pin(async move {
            insert(connection, id).await?;
            tokio::time::sleep_until(deadline).await;
            Ok(Step::Commit(()))
        })
    });
    let done = work.await;
    assert!(matches!(done, Err(DatabaseError::Deadline)), "{done:?}");
    light(&database, id).await.expect("the id is still free");
}

#[tokio::test]
async fn a_lock_that_does_not_come_free_is_busy_and_not_executed() {
    let test = lamps().await;
    let database = serving(&test, ONE);
    let id = Uuid::now_v7();
    light(&database, id).await.unwrap();
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    let mut holder = admin.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM lamps WHERE id = $1 FOR UPDATE").bind(id).execute(&mut *holder).await.unwrap();
    let done = database
        .transaction(None, id, |connection, id| {
            Box::pin(async move {
                sqlx::query("UPDATE lamps SET version = 2 WHERE id = $1")
                    .bind(id)
                    .execute(connection)
                    .await?;
                Ok(Step::Commit(()))
            })
        })
        .await;
    assert!(matches!(done, Err(DatabaseError::Busy(_))), "{done:?}");
}

#[tokio::test]
async fn a_plan_made_while_a_table_was_empty_does_not_read_it_whole() {
    let test = lamps().await;
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    // It is known to be empty, so that to read it whole costs nothing.
    sqlx::raw_sql("ANALYZE lamps").execute(&mut admin).await.unwrap();
    let database = serving(&test, Limits::default());
    let plan: Vec<String> = database
        .read(None, (), |connection, ()| {
            Box::pin(
                sqlx::query_scalar(
                    "EXPLAIN SELECT FROM lamps WHERE id = '00000000-0000-0000-0000-000000000000'",
                )
                .fetch_all(connection),
            )
        })
        .await
        .unwrap();
    assert!(plan[0].starts_with("Index"), "{plan:?}");
    // What can only be read whole is read, and not compiled first.
    let plan: Vec<String> = database
        .read(None, (), |connection, ()| {
            Box::pin(sqlx::query_scalar("EXPLAIN SELECT version FROM lamps").fetch_all(connection))
        })
        .await
        .unwrap();
    assert!(plan[0].starts_with("Seq") && plan.iter().all(|line| !line.contains("JIT")), "{plan:?}");
}
