//! Tests that a use case which is dropped at any of its awaits has its whole effect or none.

use testkit::cut_after;
use testkit::proxy::TcpProxy;
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::{PATIENCE, Stage, ask, ask_with};

/// A test setup whose use cases reach the database through a proxy on the same thread. The proxy does not run while a use
/// case is polled, so the use case has to wait for every reply, and every await is a place to cut.
async fn relayed(items: &[(&str, i64)]) -> (Stage, TcpProxy) {
    let stage = Stage::with(items).await;
    stage.behind_proxy().await
}

/// Waits until no session is in a transaction: the server has then rolled back the transactions that were cut.
async fn settle(stage: &Stage) {
    let open = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
          AND (state LIKE 'idle in transaction%' OR state = 'active')";
    let until = Instant::now() + PATIENCE;
    while sqlx::query_scalar::<_, i64>(open).fetch_one(&stage.admin).await.unwrap() > 0 {
        assert!(Instant::now() < until, "a transaction was left open");
        tokio::task::yield_now().await;
    }
}

/// Waits until the pool has an idle connection, so that no poll is spent on a handshake.
async fn warm(stage: &Stage) {
    let until = Instant::now() + PATIENCE;
    while stage.app.database().connections().1 == 0 {
        stage.app.store.held().await.unwrap();
        tokio::task::yield_now().await;
        assert!(Instant::now() < until, "no connection comes back to the pool");
    }
}

/// Cuts `attempt(n)` after 0, 1, 2 … polls until it finishes by itself. After each cut, `check(n)` repeats it.
async fn cut_everywhere<A, C>(stage: &Stage, attempt: A, check: C)
where
    A: AsyncFn(u32),
    C: AsyncFn(u32),
{
    let mut polls = 0;
    loop {
        warm(stage).await;
        let finished = cut_after(polls, attempt(polls)).await.is_some();
        settle(stage).await;
        check(polls).await;
        if finished {
            break;
        }
        polls += 1;
        assert!(polls < 300, "it never finished");
    }
    assert!(polls > 5, "{polls} waits are not a transaction");
    stage.assert_sound().await;
}

fn id_of(n: u32) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_be_bytes())
}

fn key_of(n: u32) -> String {
    format!("the key of attempt {n}")
}

#[tokio::test]
async fn a_reserve_cut_anywhere_is_whole_or_absent_and_its_repeat_completes_it() {
    let (stage, _proxy) = relayed(&[("a", 1_000_000)]).await;
    let reserve = async |n| stage.reserve(ask_with(&key_of(n)), id_of(n), &[("a", 1)]).await.unwrap();
    let mut was_written = Vec::new();
    loop {
        warm(&stage).await;
        let n = u32::try_from(was_written.len()).unwrap();
        let finished = cut_after(n, reserve(n)).await.is_some();
        // If the batch has taken the reserve, it executes it, and the repeat comes after that.
        let repeat = reserve(n).await;
        was_written.push(repeat.replayed);
        assert_eq!(repeat.stored.status, 201);
        assert_eq!((stage.stock("a").await.1, stage.path(id_of(n)).await.len()), (i64::from(n) + 1, 1));
        if finished {
            break;
        }
        assert!(n < 300, "it never finished");
    }
    assert!(!was_written[0] && !was_written[1], "the batch had not taken it: {was_written:?}");
    assert_eq!(was_written.last(), Some(&true), "the last attempt got its reply");
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_confirmation_cut_anywhere_is_whole_or_absent_and_its_repeat_completes_it() {
    let (stage, _proxy) = relayed(&[("a", 1_000_000), ("b", 1_000_000)]).await;
    for n in 0..300 {
        stage.reserve(ask(), id_of(n), &[("b", 1), ("a", 1)]).await.unwrap();
    }
    cut_everywhere(
        &stage,
        async |n| {
            stage.confirm(ask_with(&key_of(n)), id_of(n)).await.unwrap();
        },
        async |n| {
            let shipped = stage.status(id_of(n)).await.unwrap() == "confirmed";
            let expected = 1_000_000 - i64::from(n) - i64::from(shipped);
            assert_eq!((stage.stock("a").await.0, stage.stock("b").await.0), (expected, expected));
            let repeat = stage.confirm(ask_with(&key_of(n)), id_of(n)).await.unwrap();
            assert_eq!((repeat.stored.status, repeat.replayed), (200, shipped));
        },
    )
    .await;
}

#[tokio::test]
async fn a_release_cut_anywhere_is_whole_or_absent_and_its_repeat_completes_it() {
    let (stage, _proxy) = relayed(&[("a", 1_000_000)]).await;
    for n in (0..300).step_by(2) {
        stage.reserve(ask(), id_of(n), &[("a", 1)]).await.unwrap();
    }
    // Every second reservation has no reserve, so its release voids it.
    cut_everywhere(
        &stage,
        async |n| {
            stage.release(ask_with(&key_of(n)), id_of(n)).await.unwrap();
        },
        async |n| {
            let repeat = stage.release(ask_with(&key_of(n)), id_of(n)).await.unwrap();
            assert_eq!(repeat.stored.status, 200);
            let path = stage.path(id_of(n)).await;
            assert_eq!(path.last().unwrap(), if n % 2 == 0 { "released" } else { "voided" });
        },
    )
    .await;
}

#[tokio::test]
async fn a_creation_and_a_receipt_cut_anywhere_count_once() {
    let (stage, _proxy) = relayed(&[]).await;
    cut_everywhere(
        &stage,
        async |n| {
            stage.create(ask_with(&key_of(n)), &n.to_string(), 10).await.unwrap();
        },
        async |n| {
            let repeat = stage.create(ask_with(&key_of(n)), &n.to_string(), 10).await.unwrap();
            assert_eq!(repeat.stored.status, 201);
        },
    )
    .await;
    cut_everywhere(
        &stage,
        async |n| {
            stage.receive(ask_with(&format!("receipt {n}")), "0", 1).await.unwrap();
        },
        async |n| {
            stage.receive(ask_with(&format!("receipt {n}")), "0", 1).await.unwrap();
            assert_eq!(stage.stock("0").await.0, 11 + i64::from(n));
        },
    )
    .await;
}

#[tokio::test]
async fn the_next_sweep_expires_the_holds_that_a_cut_sweep_left() {
    let (stage, _proxy) = relayed(&[("a", 1_000_000)]).await;
    cut_everywhere(
        &stage,
        async |n| {
            for part in 0..3 {
                let id = Uuid::new_v5(&id_of(n), &[part]);
                if stage.status(id).await.is_none() {
                    stage.reserve(ask(), id, &[("a", 1)]).await.unwrap();
                    stage.let_end(id).await;
                }
            }
            stage.app.expire_due("test").await.unwrap();
        },
        async |_| {
            sqlx::query("UPDATE reservations SET expires_at = clock_timestamp() WHERE status = 'held'")
                .execute(&stage.admin)
                .await
                .unwrap();
            stage.app.expire_due("test").await.unwrap();
            assert_eq!(stage.stock("a").await, (1_000_000, 0));
        },
    )
    .await;
}
