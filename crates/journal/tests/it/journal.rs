//! The journal itself: append-only, chained, legal, and read without losing a row.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Lamp, insert, lamps, light, serving, switch};
use journal::database::Limits;
use journal::feed::{self, Cursor};
use journal::{Entry, Head, Journal, Keys, Step, append};
use local::Service;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _};
use testkit::TestCluster;
use testkit::databases::Migration;
use uuid::Uuid;

#[tokio::test]
async fn nobody_rewrites_the_past() {
    let test = lamps().await;
    light(&serving(&test, Limits::default()), Uuid::now_v7()).await.unwrap();
    let rewrites = ["UPDATE journal SET to_state = 'off'", "DELETE FROM journal", "TRUNCATE journal"];
    for (who, url) in [("the serving role", test.serving_url()), ("the owner", test.owner_url())] {
        let mut connection = PgConnection::connect(url).await.unwrap();
        for rewrite in rewrites {
            let refused = sqlx::query(rewrite).execute(&mut connection).await.expect_err(who);
            let code = refused.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
            assert_eq!(code.as_deref(), Some("42501"), "{who}: {rewrite}: {refused}");
        }
    }
    let mut serving = PgConnection::connect(test.serving_url()).await.unwrap();
    for ddl in
        ["CREATE TABLE x ()", "DROP TRIGGER journal_no_rewrite ON journal", "ALTER TABLE lamps ADD x int"]
    {
        let refused = sqlx::query(ddl).execute(&mut serving).await.unwrap_err();
        let code = refused.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
        assert_eq!(code.as_deref(), Some("42501"), "{ddl}: {refused}");
    }
}

#[tokio::test]
async fn an_illegal_transition_cannot_be_recorded() {
    let test = lamps().await;
    let mut connection = PgConnection::connect(test.serving_url()).await.unwrap();
    let sealed = switch(&Journal::new("test", "r", "c"), Uuid::now_v7(), None, Lamp::Off);
    let refused = append(&mut connection, &[&sealed], Keys::Leave).await.unwrap_err();
    assert!(refused.as_database_error().unwrap().is_foreign_key_violation(), "{refused}");
}

#[tokio::test]
async fn one_version_is_written_once() {
    let test = lamps().await;
    let mut connection = PgConnection::connect(test.serving_url()).await.unwrap();
    let journal = Journal::new("test", "r", "c");
    let id = Uuid::now_v7();
    append(&mut connection, &[&switch(&journal, id, None, Lamp::On)], Keys::Leave).await.unwrap();
    let refused =
        append(&mut connection, &[&switch(&journal, id, None, Lamp::On)], Keys::Leave).await.unwrap_err();
    assert!(append::is_taken(&refused, "journal_pkey"), "{refused}");
}

/// Writers that draw their numbers and commit much later, in another order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_loses_nothing_under_concurrent_writers_beside_a_stranger_who_stays_open() {
    const WRITERS: usize = 16;
    const EACH: usize = 40;
    let test = lamps().await;
    let database =
        serving(&test, Limits { connections: 24, acquire: Duration::from_secs(20), ..Limits::default() });
    // An open writer elsewhere in the cluster: an xmin watermark would stand still behind it.
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    let mut stranger = admin.begin().await.unwrap();
    insert(&mut stranger, Uuid::now_v7()).await.unwrap();

    let done = AtomicBool::new(false);
    let write = async {
        let writers = (0..WRITERS).map(|n| {
            let database = &database;
            async move {
                let journal = Journal::new("test", "r", "c");
                let mut head: Option<Head> = None;
                let id = Uuid::now_v7();
                for turn in 0..EACH {
                    let to = if turn % 2 == 0 { Lamp::On } else { Lamp::Off };
                    let sealed = switch(&journal, id, head.take(), to);
                    head = Some(sealed.head());
                    let pause = Duration::from_micros(u64::try_from((n * 7 + turn * 13) % 40).unwrap() * 100);
                    database
                        .transaction(None, (&sealed, pause), |connection, &(sealed, pause)| {
                            Box::pin(async move {
                                append(connection, &[sealed], Keys::Leave).await?;
                                // Between the number and the commit, so that they come in different orders.
                                tokio::time::sleep(pause).await;
                                Ok(Step::Commit(()))
                            })
                        })
                        .await
                        .unwrap();
                }
            }
        });
        futures_util::future::join_all(writers).await;
        done.store(true, Ordering::SeqCst);
    };
    let read = async {
        let mut cursor = Cursor::start();
        let mut seen: Vec<(i64, String, Entry)> = Vec::new();
        loop {
            // Read the flag first: what was committed before it was set is visible to the page after it.
            let last = done.load(Ordering::SeqCst);
            let page = database
                .read(None, cursor.clone(), |connection, cursor| {
                    Box::pin(feed::read(connection, "test", cursor.clone(), 7))
                })
                .await
                .unwrap()
                .unwrap();
            let is_empty = page.items.is_empty();
            seen.extend(page.items.into_iter().map(|item| {
                let text = item.entry.get();
                assert_eq!(
                    item.hash,
                    journal::hex(&journal::entry::hash(text.as_bytes())),
                    "as it was hashed"
                );
                (item.seq, item.hash.clone(), serde_json::from_str(text).unwrap())
            }));
            cursor = page.next.unwrap().parse().unwrap();
            if last && is_empty && !page.more {
                return seen;
            }
        }
    };
    let ((), seen) = tokio::join!(write, read);
    assert_eq!(seen.len(), WRITERS * EACH, "every entry once");
    assert_eq!(seen.iter().map(|(seq, ..)| seq).collect::<HashSet<_>>().len(), seen.len(), "none twice");
    let mut versions: HashMap<Uuid, (i64, Option<String>)> = HashMap::new();
    for (_, own, entry) in &seen {
        let (version, hash) = versions.entry(entry.aggregate_id).or_default();
        assert_eq!(entry.version, *version + 1, "an aggregate's entries come in order");
        assert_eq!(entry.prev_hash.as_deref(), hash.as_deref(), "each is chained to the one before");
        *version = entry.version;
        *hash = Some(own.clone());
    }
    stranger.rollback().await.unwrap();
}

#[tokio::test]
async fn an_entry_that_is_no_json_is_named_and_stops_no_reader_of_the_others() {
    let test = lamps().await;
    let database = serving(&test, Limits::default());
    let mut connection = PgConnection::connect(test.serving_url()).await.unwrap();
    for body in ["\\xff", "\\x7b"] {
        light(&database, Uuid::now_v7()).await.unwrap();
        let foreign = "INSERT INTO journal (id, aggregate_kind, aggregate_id, version, from_state, to_state,
                correlation_id, body, hash)
            VALUES (gen_random_uuid(), 'lamp', gen_random_uuid(), 1, 'none', 'on', 'foreign', $1::text::bytea,
                decode(repeat('00', 32), 'hex'))";
        sqlx::query(foreign).bind(body).execute(&mut connection).await.unwrap();
    }
    light(&database, Uuid::now_v7()).await.unwrap();
    let page = feed::read(&mut connection, "test", Cursor::start(), 10).await.unwrap().unwrap();
    let readable: Vec<bool> = page.items.iter().map(|item| item.unreadable.is_none()).collect();
    assert_eq!(readable, [true, false, true, false, true]);
    let foreign = feed::Filter::Correlation("foreign".to_owned());
    let found = feed::find(&mut connection, "test", &foreign, 10).await.unwrap();
    assert!(found.items.len() == 2 && found.items.iter().all(|item| item.entry.get() == "null"));
}

#[tokio::test]
async fn a_key_is_found_by_its_hash_without_reading_all_keys() {
    let test = lamps().await;
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    for statement in [
        "INSERT INTO idempotency (principal, key_hash, fingerprint, command, aggregate_id)
         SELECT 'p' || n % 100, sha256(n::text::bytea), '', 'switch', gen_random_uuid()
         FROM generate_series(1, 20000) n",
        "ANALYZE idempotency",
        "SET plan_cache_mode = force_generic_plan",
    ] {
        sqlx::query(statement).execute(&mut admin).await.unwrap();
    }
    let prepare = format!("PREPARE by_key (bytea, bigint, bigint) AS {}", feed::BY_KEY);
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut admin).await.unwrap();
    let explain = sqlx::raw_sql("EXPLAIN EXECUTE by_key ('', 1, 1)").fetch_all(&mut admin).await.unwrap();
    let plan: Vec<String> = explain.iter().map(|row| row.get(0)).collect();
    // Pages read, about: an index that begins with something else is read whole.
    let cost: f64 =
        plan[0].split_once("..").and_then(|(_, rest)| rest.split(' ').next()).unwrap().parse().unwrap();
    assert!(cost < 50.0, "{plan:#?}");
}

#[tokio::test]
async fn a_database_of_an_earlier_release_is_migrated() {
    let cluster = TestCluster::own().await.unwrap();
    let now = journal::migrations::migrator(&crate::support::LAMP);
    let first = now.iter().filter(|migration| [1, 1001].contains(&migration.version)).cloned();
    let first = Migrator::with_migrations(first.collect());
    let test = cluster.database(Service::Order, Migration::Here(&first)).await.unwrap();
    light(&serving(&test, Limits::default()), Uuid::now_v7()).await.unwrap();
    let mut owner = PgConnection::connect(test.owner_url()).await.unwrap();
    now.run_direct(None, &mut owner, false).await.unwrap();
    light(&serving(&test, Limits::default()), Uuid::now_v7()).await.unwrap();
    let keys: String = sqlx::query_scalar("SELECT pg_get_indexdef('idempotency_pkey'::regclass)")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert!(keys.ends_with("(key_hash, principal)"), "{keys}");
    cluster.end().await.unwrap();
}

#[tokio::test]
async fn a_page_of_large_entries_ends_before_it_fills_the_memory() {
    const BODY: i64 = 1 << 20;
    let test = lamps().await;
    let mut connection = PgConnection::connect(test.serving_url()).await.unwrap();
    for n in 1..=6_i64 {
        let large = r#"INSERT INTO journal (id, aggregate_kind, aggregate_id, version, from_state, to_state,
                correlation_id, body, hash)
            VALUES (gen_random_uuid(), 'lamp', gen_random_uuid(), 1, 'none', 'on', 'large',
                convert_to('"' || repeat('x', $1) || '"', 'UTF8'), decode(repeat('00', 32), 'hex'))"#;
        let size = i32::try_from(BODY + n).unwrap();
        sqlx::query(large).bind(size).execute(&mut connection).await.unwrap();
    }
    let most = usize::try_from(feed::PAGE_BYTES / BODY).unwrap();
    let first = feed::read(&mut connection, "test", Cursor::start(), 5_000).await.unwrap().unwrap();
    assert_eq!((first.items.len(), first.more), (most, true));
    let next = first.next.unwrap().parse().unwrap();
    let rest = feed::read(&mut connection, "test", next, 5_000).await.unwrap().unwrap();
    assert_eq!((rest.items.len(), rest.more), (6 - most, false));
    assert!(first.items.last().unwrap().seq < rest.items[0].seq, "none is left out, and none comes twice");

    let of_it = feed::Filter::Correlation("large".to_owned());
    let found = feed::find(&mut connection, "test", &of_it, 5_000).await.unwrap();
    assert_eq!((found.items.len(), found.more), (most, true), "there is more than it gives, and it says so");
}
