//! A journal that came from another cluster, and entries that were placed by hand.

use std::time::Duration;

use crate::support::{LAMP, Lamp, lamps, light, serving, switch};
use journal::cluster::{Restored, mark};
use journal::database::Limits;
use journal::feed::{self, Cursor, Page, Refused};
use journal::migrations::{self, Schema};
use journal::{Journal, Keys, append};
use local::Service;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::databases::Migration;
use testkit::{TestCluster, TestDatabase, eventually};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);

async fn admin(test: &TestDatabase) -> PgConnection {
    PgConnection::connect_with(&test.admin()).await.unwrap()
}

async fn owner(test: &TestDatabase) -> PgConnection {
    PgConnection::connect(test.owner_url()).await.unwrap()
}

/// As after a restore from a cluster that was `ahead` transactions ahead of this one.
async fn pretend_restored(test: &TestDatabase, ahead: i64) {
    let statement = format!(
        "ALTER TABLE journal DISABLE TRIGGER USER;
         UPDATE journal SET xid = (xid::text::bigint + {ahead})::text::xid8;
         ALTER TABLE journal ENABLE TRIGGER USER"
    );
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin(test).await).await.unwrap();
}

/// Uses transaction ids up.
async fn burn(test: &TestDatabase, ids: i64) {
    let statement =
        format!("DO $$ BEGIN FOR i IN 1..{ids} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin(test).await).await.unwrap();
}

async fn switch_on(test: &TestDatabase, lamps: usize) {
    let database = serving(test, Limits::default());
    for _ in 0..lamps {
        light(&database, Uuid::now_v7()).await.unwrap();
    }
}

async fn page(test: &TestDatabase, cursor: &Cursor) -> Result<Page, Refused> {
    let mut serving = PgConnection::connect(test.serving_url()).await.unwrap();
    feed::read(&mut serving, "test", cursor.clone(), 3).await.unwrap()
}

/// The numbers of all entries after the cursor, page by page, and the cursor after them.
async fn read_on(test: &TestDatabase, cursor: &Cursor) -> (Vec<i64>, Cursor) {
    let (mut seqs, mut cursor) = (Vec::new(), cursor.clone());
    loop {
        let page = page(test, &cursor).await.unwrap();
        seqs.extend(page.items.iter().map(|item| item.seq));
        cursor = page.next.unwrap().parse().unwrap();
        if !page.more {
            return (seqs, cursor);
        }
    }
}

#[tokio::test]
async fn entries_from_another_cluster_are_read_first_and_once_and_new_ones_after_them() {
    let test = lamps().await;
    assert_eq!(mark(&mut owner(&test).await).await.unwrap(), None);
    switch_on(&test, 7).await;
    let (all, before) = read_on(&test, &Cursor::start()).await;
    assert_eq!(all, [1, 2, 3, 4, 5, 6, 7]);

    pretend_restored(&test, 300).await;
    for cursor in [&Cursor::start(), &before] {
        assert_eq!(page(&test, cursor).await.unwrap_err(), Refused::Unmarked, "not half of it");
    }
    let restored = mark(&mut owner(&test).await).await.unwrap();
    assert_eq!(restored, Some(Restored { epoch: 1, history_end: 7 }));
    assert_eq!(mark(&mut owner(&test).await).await.unwrap(), None, "it is marked once");

    let (all, cursor) = read_on(&test, &Cursor::start()).await;
    assert_eq!(all, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(page(&test, &before).await.unwrap_err(), Refused::Outdated);
    switch_on(&test, 2).await;
    let (new, cursor) = read_on(&test, &cursor).await;
    assert_eq!(new, [8, 9]);

    // Now the cluster's own ids reach and pass those that came with the journal.
    burn(&test, 200).await;
    switch_on(&test, 1).await;
    let (new, cursor) = read_on(&test, &cursor).await;
    assert_eq!(new, [10]);
    burn(&test, 200).await;
    switch_on(&test, 1).await;
    assert_eq!(read_on(&test, &cursor).await.0, [11]);
    assert_eq!(read_on(&test, &Cursor::start()).await.0, (1..=11).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_mark_comes_after_entries_that_were_numbered_and_not_committed() {
    let test = lamps().await;
    switch_on(&test, 2).await;
    pretend_restored(&test, 1_000).await;
    let mut writer = PgConnection::connect(test.serving_url()).await.unwrap();
    let mut slow = writer.begin().await.unwrap();
    let sealed = switch(&Journal::new("test", "r", "c"), Uuid::now_v7(), None, Lamp::On);
    append(&mut slow, &[&sealed], Keys::Leave).await.unwrap();
    let mut owner = owner(&test).await;
    let marked = tokio::spawn(async move { mark(&mut owner).await });
    eventually("the mark waits", SOON, async || {
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock')";
        sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut admin(&test).await).await.unwrap()
    })
    .await;
    slow.commit().await.unwrap();
    let restored = marked.await.unwrap().unwrap();
    assert_eq!(restored, Some(Restored { epoch: 1, history_end: 3 }));
}

#[tokio::test]
async fn a_journal_whose_cluster_has_another_identifier_is_marked_whatever_its_ids() {
    let test = lamps().await;
    switch_on(&test, 2).await;
    let mut owner = owner(&test).await;
    mark(&mut owner).await.unwrap();
    sqlx::query("UPDATE journal_clusters SET system_identifier = 1").execute(&mut owner).await.unwrap();
    let restored = mark(&mut owner).await.unwrap();
    assert_eq!(restored, Some(Restored { epoch: 1, history_end: 2 }));
}

#[tokio::test]
async fn a_sequence_that_was_not_restored_follows_the_history() {
    let test = lamps().await;
    switch_on(&test, 5).await;
    pretend_restored(&test, 1_000).await;
    sqlx::raw_sql("SELECT setval('journal_seq_seq', 1)").execute(&mut admin(&test).await).await.unwrap();
    mark(&mut owner(&test).await).await.unwrap();
    let (_, cursor) = read_on(&test, &Cursor::start()).await;
    switch_on(&test, 1).await;
    assert_eq!(read_on(&test, &cursor).await.0, [6]);
}

#[tokio::test]
async fn a_cursor_of_transactions_that_the_cluster_has_lost_is_refused() {
    let test = lamps().await;
    switch_on(&test, 1).await;
    let beyond = "999999999:999999999:".parse().unwrap();
    assert_eq!(page(&test, &beyond).await.unwrap_err(), Refused::Outdated);
}

#[tokio::test]
async fn the_serving_role_places_no_entry_where_the_feed_does_not_see_it() {
    let test = lamps().await;
    let forge = |column: &str, value: &str| {
        format!(
            "INSERT INTO journal ({column}, id, aggregate_kind, aggregate_id, version, from_state, to_state,
                 correlation_id, body, hash)
             OVERRIDING SYSTEM VALUE
             VALUES ({value}, gen_random_uuid(), 'lamp', gen_random_uuid(), 1, 'none', 'on', 'forged', '\"x\"',
                 decode(repeat('00', 32), 'hex'))"
        )
    };
    let code = |error: sqlx::Error| error.as_database_error().unwrap().code().unwrap().into_owned();
    let mut serving = PgConnection::connect(test.serving_url()).await.unwrap();
    for (column, value) in [("seq", "5"), ("seq", "-5"), ("xid", "'3'"), ("seq, xid", "-5, '3'")] {
        let forged = sqlx::query(AssertSqlSafe(forge(column, value))).execute(&mut serving).await;
        assert_eq!(code(forged.unwrap_err()), "42501", "{column}");
    }
    let move_history = "INSERT INTO journal_clusters (epoch, history_end) VALUES (9, 9)";
    assert_eq!(code(sqlx::query(move_history).execute(&mut serving).await.unwrap_err()), "42501");
    let forged = sqlx::query(AssertSqlSafe(forge("seq", "-5"))).execute(&mut owner(&test).await).await;
    assert_eq!(code(forged.unwrap_err()), "23514", "nor does the owner");
}

#[tokio::test]
async fn a_newer_schema_is_accepted_and_concurrent_runs_wait_for_each_other() {
    let cluster = TestCluster::own().await.unwrap();
    let release = migrations::migrator(&LAMP);
    let empty = migrations::migrator(&[]);
    let test = cluster.database(Service::Order, Migration::Here(&empty)).await.unwrap();
    let runs = futures_util::future::join_all(
        (0..4).map(|_| async { migrations::run(&release, &mut owner(&test).await).await.unwrap() }),
    );
    for run in runs.await {
        assert_eq!(run.schema, Schema::Current(1002));
    }
    light(&serving(&test, Limits::default()), Uuid::now_v7()).await.unwrap();
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (1999, 'later', true, 'x', 0)";
    sqlx::query(later).execute(&mut owner(&test).await).await.unwrap();
    let run = migrations::run(&release, &mut owner(&test).await).await.unwrap();
    assert_eq!(run.schema, Schema::Newer(1999));
    cluster.end().await.unwrap();
}

#[tokio::test]
async fn a_migration_gives_up_behind_a_lock_instead_of_holding_up_every_request_behind_it() {
    let cluster = TestCluster::own().await.unwrap();
    let release = migrations::migrator(&LAMP);
    let earlier = release.iter().filter(|migration| migration.version <= 2).cloned().collect();
    let earlier = Migrator::with_migrations(earlier);
    let test = cluster.database(Service::Order, Migration::Here(&earlier)).await.unwrap();
    let mut admin = admin(&test).await;
    let mut reader = admin.begin().await.unwrap();
    sqlx::query("SELECT FROM journal").execute(&mut *reader).await.unwrap();
    let mut behind = owner(&test).await;
    let gave_up = tokio::time::timeout(SOON, migrations::run(&release, &mut behind));
    let gave_up = gave_up.await.expect("it gives up").unwrap_err().to_string();
    assert!(gave_up.contains("lock timeout"), "{gave_up}");
    behind.close().await.unwrap();
    reader.rollback().await.unwrap();
    migrations::run(&release, &mut owner(&test).await).await.unwrap();
    cluster.end().await.unwrap();
}
