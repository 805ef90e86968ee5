//! Tests of many requests at once.

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use inventory_service::app::CommandError;
use journal::DatabaseError;
use uuid::Uuid;

use crate::support::{Stage, ask, ask_with, problem};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_repeats_at_once_one_does_the_work_and_all_get_the_same_bytes() {
    let stage = Stage::with(&[("a", 1_000)]).await;
    for round in 0..5 {
        let (id, key) = (Uuid::now_v7(), format!("a key for the round {round}"));
        let all = join_all((0..8).map(|_| stage.reserve(ask_with(&key), id, &[("a", 2)]))).await;
        let replies: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        assert_eq!(replies.iter().filter(|r| !r.replayed).count(), 1);
        assert!(replies.iter().all(|r| r.stored == replies[0].stored && r.entry_id == replies[0].entry_id));
        let key = format!("a key for confirming in round {round}");
        let all = join_all((0..8).map(|_| stage.confirm(ask_with(&key), id))).await;
        let replies: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        assert_eq!(replies.iter().filter(|r| !r.replayed).count(), 1);
        assert!(replies.iter().all(|r| r.stored == replies[0].stored));
        assert_eq!(stage.path(id).await, ["held", "confirmed"]);
    }
    assert_eq!(stage.stock("a").await, (990, 0));
    stage.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn repeats_of_a_receipt_and_of_a_creation_at_once_count_once() {
    let stage = Stage::new().await;
    let all = join_all((0..8).map(|_| stage.create(ask_with("a key for creating"), "a", 10))).await;
    assert!(all.into_iter().all(|r| r.unwrap().stored.status == 201));
    let all = join_all((0..8).map(|_| stage.receive(ask_with("a key for receiving"), "a", 5))).await;
    assert!(all.into_iter().all(|r| r.unwrap().stored.status == 201));
    assert_eq!(stage.stock("a").await, (15, 0));
    let all = join_all((0..8).map(|n| stage.create(ask(), "b", n))).await;
    let won = all.iter().filter(|r| r.as_ref().unwrap().stored.status == 201).count();
    assert_eq!(won, 1, "one of the creations of one SKU succeeds");
    stage.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_pieces_are_reserved_once() {
    let stage = Stage::with(&[("a", 10)]).await;
    let ids: Vec<_> = (0..25).map(|_| Uuid::now_v7()).collect();
    let all = join_all(ids.iter().map(|id| stage.reserve(ask(), *id, &[("a", 1)]))).await;
    let replies: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    assert_eq!(replies.iter().filter(|r| r.stored.status == 201).count(), 10);
    assert!(replies.iter().all(|r| r.stored.status == 201 || problem(r) == "insufficient-stock"));
    assert_eq!(stage.stock("a").await, (10, 10));
    stage.assert_sound().await;
}

#[tokio::test]
async fn reserves_at_the_same_time_share_a_transaction_and_a_repeat_among_them_delays_no_other() {
    let stage = Stage::with(&[("a", 10)]).await;
    let (known, key) = (Uuid::now_v7(), "a key that is known");
    stage.reserve(ask_with(key), known, &[("a", 1)]).await.unwrap();
    let [one, two, three, four] = [(); 4].map(|()| Uuid::now_v7());
    let (first, second) =
        tokio::join!(stage.reserve(ask(), one, &[("a", 1)]), stage.reserve(ask(), two, &[("a", 2)]));
    assert_eq!([first, second].map(|reply| reply.unwrap().stored.status), [201, 201]);
    let transactions = "SELECT count(DISTINCT xid) FROM journal WHERE aggregate_id = ANY($1)";
    let transactions = sqlx::query_scalar::<_, i64>(transactions).bind(vec![one, two]);
    assert_eq!(transactions.fetch_one(&stage.admin).await.unwrap(), 1);

    let twice = Uuid::now_v7();
    let (first, again, one, other, last) = tokio::join!(
        stage.reserve(ask(), three, &[("a", 1)]),
        stage.reserve(ask_with(key), known, &[("a", 1)]),
        stage.reserve(ask_with("a key that comes twice"), twice, &[("a", 1)]),
        stage.reserve(ask_with("a key that comes twice"), twice, &[("a", 1)]),
        stage.reserve(ask(), four, &[("a", 1)])
    );
    for new in [first, last] {
        assert_eq!(new.unwrap().stored.status, 201);
    }
    assert!(again.unwrap().replayed);
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((one.stored, one.replayed, other.replayed), (other.stored, false, true));
    let transactions = "SELECT count(DISTINCT xid) FROM journal WHERE aggregate_id = ANY($1)";
    let transactions = sqlx::query_scalar::<_, i64>(transactions).bind(vec![three, four, twice]);
    assert_eq!(transactions.fetch_one(&stage.admin).await.unwrap(), 1, "the repeats part nothing");
    assert_eq!(stage.stock("a").await, (10, 7));
    stage.assert_sound().await;
}

#[tokio::test]
async fn an_item_that_is_locked_delays_only_the_reserves_that_need_it() {
    let stage = Stage::with(&[("a", 10), ("b", 10)]).await;
    let mut other = stage.admin.begin().await.unwrap();
    sqlx::query("SELECT FROM items WHERE sku = 'b' FOR UPDATE").execute(&mut *other).await.unwrap();
    let mut waits = std::pin::pin!(stage.reserve(ask(), Uuid::now_v7(), &[("b", 1)]));
    let passes = std::pin::pin!(stage.reserve(ask(), Uuid::now_v7(), &[("a", 1)]));
    let passed = futures_util::future::select(&mut waits, passes).await;
    assert!(
        matches!(passed, futures_util::future::Either::Right((Ok(_), _))),
        "the reserve of the locked item came first"
    );
    other.commit().await.unwrap();
    assert_eq!(waits.await.unwrap().stored.status, 201);
    stage.assert_sound().await;
}

#[tokio::test]
async fn forty_confirms_of_a_locked_reservation_leave_connections_for_the_others() {
    let stage = Stage::with(&[("a", 10)]).await;
    let (locked, free) = (stage.hold(&[("a", 1)]).await, stage.hold(&[("a", 1)]).await);
    let mut other = stage.admin.begin().await.unwrap();
    let lock = sqlx::query("SELECT FROM reservations WHERE id = $1 FOR UPDATE").bind(locked);
    lock.execute(&mut *other).await.unwrap();
    let (confirms, passes) = tokio::join!(
        async {
            let mut confirms: FuturesUnordered<_> = (0..40).map(|_| stage.confirm(ask(), locked)).collect();
            // As many as find no room; the others wait.
            for _ in 0..28 {
                let busy = confirms.next().await.unwrap();
                assert!(matches!(busy, Err(CommandError::NotExecuted(DatabaseError::Busy(_)))), "{busy:?}");
            }
            confirms
        },
        stage.confirm(ask(), free)
    );
    assert_eq!(passes.unwrap().stored.status, 200);
    other.rollback().await.unwrap();
    let confirms: Vec<_> = confirms.collect().await;
    assert!(confirms.into_iter().all(|reply| reply.unwrap().stored.status == 200));
    stage.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lines_in_opposite_order_never_deadlock() {
    let stage = Stage::with(&[("a", 10_000), ("b", 10_000), ("c", 10_000)]).await;
    let orders =
        [[("a", 1), ("b", 1), ("c", 1)], [("c", 1), ("b", 1), ("a", 1)], [("b", 1), ("c", 1), ("a", 1)]];
    join_all((0..12).map(|worker| {
        let (stage, orders) = (&stage, &orders);
        async move {
            for round in 0..8 {
                let id = Uuid::now_v7();
                let lines = &orders[(worker + round) % 3];
                assert_eq!(stage.reserve(ask(), id, lines).await.unwrap().stored.status, 201);
                let ended = match round % 3 {
                    0 => stage.confirm(ask(), id).await,
                    1 => stage.release(ask(), id).await,
                    _ => {
                        stage.let_end(id).await;
                        stage.app.expire_due("test").await.unwrap();
                        continue;
                    }
                };
                assert_eq!(ended.unwrap().stored.status, 200);
            }
        }
    }))
    .await;
    let deadlocks: i64 =
        sqlx::query_scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            .fetch_one(&stage.admin)
            .await
            .unwrap();
    assert_eq!(deadlocks, 0);
    assert_eq!(stage.stock("a").await.1, 0);
    stage.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reserve_and_its_release_leave_nothing_held_in_either_order() {
    let stage = Stage::with(&[("a", 10_000)]).await;
    let (mut released, mut voided) = (0, 0);
    for round in 0..40 {
        let id = Uuid::now_v7();
        let items = [("a", 1)];
        let (reserve, release) = if round % 2 == 0 {
            tokio::join!(stage.reserve(ask(), id, &items), stage.release(ask(), id))
        } else {
            let (release, reserve) = tokio::join!(stage.release(ask(), id), stage.reserve(ask(), id, &items));
            (reserve, release)
        };
        let (reserve, release) = (reserve.unwrap(), release.unwrap());
        assert_eq!(release.stored.status, 200);
        match stage.path(id).await.join(" ").as_str() {
            "held released" => {
                released += 1;
                assert_eq!(reserve.stored.status, 201);
            }
            "voided" => {
                voided += 1;
                assert_eq!(problem(&reserve), "reservation-voided");
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(released + voided, 40);
    assert_eq!(stage.stock("a").await, (10_000, 0));
    stage.assert_sound().await;
}

#[tokio::test]
async fn hybrid_time_follows_a_cause_at_any_offset_below_the_year_10000() {
    let stage = Stage::with(&[("a", 10)]).await;
    let ahead = |millis: i128| -> journal::HybridTime {
        let now = journal::clock::wall_now().unix_timestamp_nanos() / 1_000_000;
        format!("{:012x}0007", now + millis).parse().unwrap()
    };
    let mut follows = ask();
    follows.clock = Some(ahead(300));
    follows.causation_id = Some(Uuid::now_v7());
    let (cause, id) = (follows.clone(), Uuid::now_v7());
    stage.reserve(follows, id, &[("a", 1)]).await.unwrap();
    let entry = stage.entries(Some(id)).await.remove(0);
    assert!(entry.hlc > cause.clock.unwrap());
    assert_eq!(entry.causation_id, cause.causation_id);

    let mut far_ahead = ask();
    far_ahead.clock = Some(ahead(24 * 3_600_000));
    let id = Uuid::now_v7();
    stage.reserve(far_ahead.clone(), id, &[("a", 1)]).await.unwrap();
    let after = stage.entries(Some(id)).await[0].hlc;
    assert!(after > far_ahead.clock.unwrap());

    let mut garbage = ask();
    garbage.clock = Some("ffffffffffffffff".parse().unwrap());
    let id = Uuid::now_v7();
    stage.reserve(garbage, id, &[("a", 1)]).await.unwrap();
    let entry = stage.entries(Some(id)).await.remove(0);
    assert!(entry.hlc > after && entry.hlc < journal::HybridClock::LIMIT);
}
