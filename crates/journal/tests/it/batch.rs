//! Writes that come at the same time: together where they can be, and each with an answer of its own.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Lamp, behind_proxy, lamps, serving, switch};
use futures_util::future::{Either, join_all, select};
use journal::batch::WRITERS;
use journal::database::Limits;
use journal::{Batch, DatabaseError, Journal, Keys, Sealed, Step, append};
use sqlx::{Connection, PgConnection};
use testkit::proxy::{Cut, Direction, Flow, TcpProxy};
use testkit::{TestDatabase, eventually};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// Appends the entries and gives the transaction's id; sleeps for each entry by `sleep S` and panics over one by `panic`.
fn lit(database: journal::Database) -> Batch<Sealed, i64> {
    Batch::new(database, weight, |connection, all| {
        Box::pin(async move {
            assert!(all.iter().all(|sealed| &*sealed.correlation_id != "panic"), "as it was told to");
            let sleeps = all.iter().filter_map(|sealed| sealed.correlation_id.strip_prefix("sleep "));
            let sleep: f64 = sleeps.map(|seconds| seconds.parse::<f64>().unwrap()).sum();
            sqlx::query("SELECT pg_sleep($1)").bind(sleep).execute(&mut *connection).await?;
            let entries: Vec<&Sealed> = all.iter().map(AsRef::as_ref).collect();
            append(&mut *connection, &entries, Keys::Leave).await?;
            let xid: i64 =
                sqlx::query_scalar("SELECT pg_current_xact_id()::text::bigint").fetch_one(connection).await?;
            Ok(Step::Commit(vec![xid; all.len()]))
        })
    })
}

/// A heavy one weighs as much as a transaction may.
fn weight(sealed: &Sealed) -> usize {
    if &*sealed.correlation_id == "heavy" { 2_000 } else { 1 }
}

/// A new entry by `who`.
fn entry_by(who: &str) -> Arc<Sealed> {
    let mut sealed = switch(&Journal::new("test", "r", "c"), Uuid::now_v7(), None, Lamp::On);
    sealed.correlation_id = who.into();
    Arc::new(sealed)
}

fn entry(id: Uuid) -> Arc<Sealed> {
    Arc::new(switch(&Journal::new("test", "r", "c"), id, None, Lamp::On))
}

async fn is_written(test: &TestDatabase, id: Uuid) -> bool {
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    let found = sqlx::query_scalar("SELECT EXISTS (SELECT FROM journal WHERE aggregate_id = $1)").bind(id);
    found.fetch_one(&mut admin).await.unwrap()
}

const PATIENT: Limits = Limits {
    connections: 4,
    acquire: Duration::from_secs(20),
    statement: Duration::from_secs(20),
    lock: Duration::from_secs(20),
    transaction: Duration::from_secs(20),
};

/// A batch whose writers wait for the server's answers to BEGIN, each with one entry, until the proxy lets answers pass.
struct AtWork {
    batch: Batch<Sealed, i64>,
    proxy: TcpProxy,
    first: Vec<JoinHandle<Result<i64, DatabaseError>>>,
    ids: Vec<Uuid>,
}

impl AtWork {
    async fn new(test: &TestDatabase) -> Self {
        let (database, proxy) = behind_proxy(test, PATIENT).await;
        let opens = || {
            database.read(None, (), |connection, ()| {
                Box::pin(sqlx::query("SELECT pg_sleep(0.1)").execute(connection))
            })
        };
        while database.connections().0 < WRITERS {
            join_all((0..WRITERS).map(|_| opens())).await;
        }
        proxy.flow(Direction::Down, Flow::Freeze);
        let batch = lit(database.clone());
        let (mut ids, mut first) = (Vec::new(), Vec::new());
        for taken in 1..=WRITERS {
            let (batch, id) = (batch.clone(), Uuid::now_v7());
            ids.push(id);
            first.push(tokio::spawn(async move { batch.write(None, entry(id)).await }));
            let is_taken = async || database.connections() == (WRITERS, WRITERS - taken);
            eventually("it is taken", PATIENT.acquire, is_taken).await;
        }
        Self { batch, proxy, first, ids }
    }

    fn go_on(&self) {
        self.proxy.flow(Direction::Down, Flow::Pass(Duration::ZERO));
    }
}

#[tokio::test]
async fn what_comes_while_all_writers_are_at_work_goes_in_one_transaction_after_them() {
    let test = lamps().await;
    let at_work = AtWork::new(&test).await;
    let others = join_all((0..10).map(|_| at_work.batch.write(None, entry(Uuid::now_v7()))));
    let (others, ()) = tokio::join!(others, async { at_work.go_on() });
    let others: HashSet<i64> = others.into_iter().map(Result::unwrap).collect();
    assert_eq!(others.len(), 1, "{others:?}");
    for first in at_work.first {
        assert!(!others.contains(&first.await.unwrap().unwrap()));
    }
}

#[tokio::test]
async fn what_is_heavy_goes_by_itself() {
    let test = lamps().await;
    let batch = lit(serving(&test, PATIENT));
    let all = join_all((0..4).map(|n| batch.write(None, entry_by(if n == 1 { "heavy" } else { "light" }))));
    let xids: Vec<i64> = all.await.into_iter().map(Result::unwrap).collect();
    assert!(xids[0] != xids[1] && xids[1] != xids[2] && xids[2] == xids[3], "{xids:?}");
}

#[tokio::test]
async fn what_no_writer_takes_in_time_was_not_done() {
    let test = lamps().await;
    let at_work = AtWork::new(&test).await;
    let late = Uuid::now_v7();
    let deadline = Instant::now() + Duration::from_millis(100);
    // All writers hang, and go on hanging.
    let told = at_work.batch.write(Some(deadline), entry(late)).await;
    assert!(matches!(told, Err(DatabaseError::Deadline)), "{told:?}");
    at_work.go_on();
    for first in at_work.first {
        first.await.unwrap().unwrap();
    }
    assert!(!is_written(&test, late).await);
}

#[tokio::test]
async fn what_somebody_sits_on_holds_up_only_who_wants_it() {
    let test = lamps().await;
    let batch = lit(serving(&test, PATIENT));
    let wanted = Uuid::now_v7();
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    let mut other = admin.begin().await.unwrap();
    append(&mut other, &[&entry(wanted)], Keys::Leave).await.unwrap();
    let mut waits = pin!(batch.write(None, entry(wanted)));
    let passes = pin!(batch.write(None, entry(Uuid::now_v7())));
    let passed = select(&mut waits, passes).await;
    assert!(matches!(passed, Either::Right((Ok(_), _))), "the one that waits came first");
    batch.write(None, entry(Uuid::now_v7())).await.unwrap();
    other.rollback().await.unwrap();
    waits.await.unwrap();
}

#[tokio::test]
async fn one_that_the_database_refuses_fails_no_other() {
    let test = lamps().await;
    let batch = lit(serving(&test, PATIENT));
    let known = entry(Uuid::now_v7());
    batch.write(None, Arc::clone(&known)).await.unwrap();
    let new = Uuid::now_v7();
    let (first, again, other) = tokio::join!(
        batch.write(None, entry(Uuid::now_v7())),
        batch.write(None, known),
        batch.write(None, entry(new))
    );
    assert!(first.is_ok() && other.is_ok(), "{first:?} {other:?}");
    assert!(matches!(again, Err(DatabaseError::Defect(_))), "{again:?}");
    assert!(is_written(&test, new).await);
}

#[tokio::test]
async fn whoever_leaves_or_is_late_while_waiting_is_not_written_and_holds_up_nobody() {
    let test = lamps().await;
    let at_work = AtWork::new(&test).await;
    at_work.first.iter().for_each(JoinHandle::abort);
    let batch = &at_work.batch;
    let [leaver, late, in_time] = [(); 3].map(|()| Uuid::now_v7());
    let leaves = batch.write(None, entry(leaver));
    assert!(tokio::time::timeout(Duration::ZERO, leaves).await.is_err());
    let deadline = Instant::now() + Duration::from_millis(50);
    let waits = batch.write(Some(deadline), entry(late));
    let comes = batch.write(Some(deadline + Duration::from_secs(20)), entry(in_time));
    let opens = async {
        tokio::time::sleep_until(deadline).await;
        at_work.go_on();
    };
    let (late_one, other, ()) = tokio::join!(waits, comes, opens);
    assert!(matches!(late_one, Err(DatabaseError::Deadline)), "{late_one:?}");
    other.unwrap();
    let mut written = Vec::new();
    for id in [leaver, late, in_time] {
        written.push(is_written(&test, id).await);
    }
    assert_eq!(written, [false, false, true]);
    for taken in at_work.ids {
        assert!(is_written(&test, taken).await, "a writer had taken it, so it was carried out");
    }
}

#[tokio::test]
async fn when_an_answer_is_lost_nobody_is_told_that_nothing_was_done() {
    let test = lamps().await;
    let at_work = AtWork::new(&test).await;
    let ids = [Uuid::now_v7(), Uuid::now_v7()];
    at_work.proxy.cut_commit_of(ids[0].as_bytes(), Cut::BeforeReply);
    let all = join_all(ids.map(|id| at_work.batch.write(None, entry(id))));
    let (lost, ()) = tokio::join!(all, async { at_work.go_on() });
    for first in at_work.first {
        first.await.unwrap().unwrap();
    }
    assert!(lost.iter().all(|lost| matches!(lost, Err(DatabaseError::Unknown(_)))), "{lost:?}");
    for id in ids {
        eventually("it was done all the same", PATIENT.lock, async || is_written(&test, id).await).await;
    }
}

#[tokio::test]
async fn a_write_that_panics_fails_no_other() {
    let test = lamps().await;
    let batch = lit(serving(&test, PATIENT));
    let new = Uuid::now_v7();
    let (first, panics, other) = tokio::join!(
        batch.write(None, entry(Uuid::now_v7())),
        batch.write(None, entry_by("panic")),
        batch.write(None, entry(new))
    );
    assert!(first.is_ok() && other.is_ok(), "{first:?} {other:?}");
    assert!(is_written(&test, new).await);
    for panics in [panics, batch.write(None, entry_by("panic")).await] {
        assert!(
            matches!(panics, Err(DatabaseError::Defect(_))),
            "nothing was done, and that is said: {panics:?}"
        );
    }
    batch.write(None, entry(Uuid::now_v7())).await.unwrap();
}

#[tokio::test]
async fn a_write_that_is_slow_by_itself_holds_up_no_other() {
    let test = lamps().await;
    let batch = lit(serving(&test, Limits { connections: 16, ..PATIENT }));
    let write = |who: &str| {
        let (batch, entry) = (batch.clone(), entry_by(who));
        tokio::spawn(async move { batch.write(None, entry).await })
    };
    // As many as there are writers, each with others in its transaction.
    let (mut slow, mut others) = (Vec::new(), Vec::new());
    for _ in 0..WRITERS {
        others.extend([write("first"), write("second")]);
        slow.push(write("sleep 60"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    others.extend((0..20).map(|_| write("later")));
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert!(slow.iter().all(|slow| !slow.is_finished()), "a statement may take as long as ever");
    slow.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_write_that_takes_longer_than_the_others_would_wait_is_written() {
    let test = lamps().await;
    let batch = lit(serving(&test, PATIENT));
    let both = [batch.write(None, entry_by("sleep 0.5")), batch.write(None, entry_by("quick"))];
    for written in join_all(both).await {
        written.unwrap();
    }
}

#[tokio::test]
async fn where_each_row_is_slow_fewer_share_a_transaction_and_they_still_share() {
    let test = lamps().await;
    let batch = lit(serving(&test, PATIENT));
    // Together they take 0.6 s, more than a shared transaction may.
    let round = async || {
        let all = join_all((0..20).map(|_| batch.write(None, entry_by("sleep 0.03")))).await;
        all.into_iter().map(Result::unwrap).collect::<HashSet<i64>>().len()
    };
    eventually("some share a transaction", PATIENT.acquire, async || round().await < 20).await;
}

/// Starts `waits` forty times for an entry that another transaction has in hand, and has `passes` go on beside them.
async fn forty_wait<W, P>(test: &TestDatabase, waits: W, passes: impl Fn() -> P)
where
    W: Fn(Arc<Sealed>) -> JoinHandle<Result<i64, DatabaseError>>,
    P: Future<Output = Result<i64, DatabaseError>>,
{
    let wanted = Uuid::now_v7();
    let mut admin = PgConnection::connect_with(&test.admin()).await.unwrap();
    let mut other = admin.begin().await.unwrap();
    append(&mut other, &[&entry(wanted)], Keys::Leave).await.unwrap();
    let waiting: Vec<_> = (0..40).map(|_| waits(entry(wanted))).collect();
    let answered = || waiting.iter().filter(|waiting| waiting.is_finished()).count();
    eventually("who finds no room is answered", PATIENT.acquire, async || answered() == 28).await;
    for _ in 0..20 {
        passes().await.unwrap();
    }
    assert_eq!(answered(), 28, "a quarter of the connections, and twice as many without one, wait");
    other.rollback().await.unwrap();
    let (mut written, mut refused, mut busy) = (0, 0, 0);
    for waiting in waiting {
        match waiting.await.unwrap() {
            Ok(_) => written += 1,
            Err(DatabaseError::Defect(_)) => refused += 1,
            Err(DatabaseError::Busy(_)) => busy += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((written, refused, busy), (1, 11, 28), "of those that waited one was first");
}

const SIXTEEN: Limits = Limits { connections: 16, ..PATIENT };

#[tokio::test]
async fn forty_orders_for_a_locked_item_leave_connections_for_the_others() {
    let test = lamps().await;
    let batch = lit(serving(&test, SIXTEEN));
    let waits = |entry| {
        let batch = batch.clone();
        tokio::spawn(async move { batch.write(None, entry).await })
    };
    forty_wait(&test, waits, || batch.write(None, entry(Uuid::now_v7()))).await;
}

#[tokio::test]
async fn forty_commands_for_a_locked_row_leave_connections_for_the_others() {
    let test = lamps().await;
    let database = serving(&test, SIXTEEN);
    let write = |entry: Arc<Sealed>| {
        let database = database.clone();
        async move {
            let appended = database.alone(None, entry, |connection, entry| {
                Box::pin(async move {
                    append(connection, &[entry], Keys::Leave).await?;
                    Ok(Step::Commit(0))
                })
            });
            appended.await
        }
    };
    forty_wait(&test, |entry| tokio::spawn(write(entry)), || write(entry(Uuid::now_v7()))).await;
}
