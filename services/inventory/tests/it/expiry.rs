//! Tests of expiring holds that have ended.

use inventory_service::app::CommandError;
use inventory_service::app::expire::SWEEP;
use inventory_service::store;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use uuid::Uuid;

use crate::support::{Stage, app, ask, patient, problem};

#[tokio::test]
async fn the_sweep_expires_due_holds_and_no_others() {
    let stage = Stage::with(&[("a", 10), ("b", 10)]).await;
    let due = stage.hold(&[("a", 2), ("b", 1)]).await;
    let other = stage.hold(&[("b", 3)]).await;
    assert_eq!(stage.app.expire_due(SWEEP).await.unwrap(), 0);
    stage.let_end(due).await;
    assert_eq!(stage.app.expire_due(SWEEP).await.unwrap(), 1);
    assert_eq!((stage.stock("a").await, stage.stock("b").await), ((10, 0), (10, 3)));
    assert_eq!(stage.status(other).await.unwrap(), "held");
    assert_eq!(stage.app.expire_due(SWEEP).await.unwrap(), 0);

    let entries = stage.entries(Some(due)).await;
    let (held, expired) = (&entries[0], &entries[1]);
    assert_eq!((&*expired.principal, &*expired.command), (SWEEP, "expire"));
    assert_eq!(expired.rule, "inventory.expire@1");
    assert_eq!(expired.causation_id, Some(held.id), "the hold is the cause of its expiry");
    assert_eq!(expired.correlation_id, held.correlation_id, "it belongs to the same request");
    stage.assert_sound().await;
}

#[tokio::test]
async fn several_sweeps_at_once_expire_many_due_holds_of_one_item_in_batches() {
    let stage = Stage::with(&[("a", 1_000), ("b", 1_000)]).await;
    for n in 0..120 {
        let pair = [("a", 1), ("b", 2)];
        let id = stage.hold(if n % 2 == 0 { &pair } else { &pair[..1] }).await;
        stage.let_end(id).await;
    }
    let others = [(); 2].map(|()| app(&stage.options, patient()));
    let (one, two, three) =
        tokio::join!(stage.app.expire_due(SWEEP), others[0].expire_due(SWEEP), others[1].expire_due(SWEEP));
    assert_eq!(one.unwrap() + two.unwrap() + three.unwrap(), 120);
    assert_eq!((stage.stock("a").await, stage.stock("b").await), ((1_000, 0), (1_000, 0)));
    stage.assert_sound().await;
}

#[tokio::test]
async fn the_sweep_skips_holds_that_another_transaction_has_locked() {
    let stage = Stage::with(&[("a", 10)]).await;
    let (locked, free) = (stage.hold(&[("a", 1)]).await, stage.hold(&[("a", 1)]).await);
    stage.let_end(locked).await;
    stage.let_end(free).await;
    let mut holder = stage.admin.begin().await.unwrap();
    sqlx::query("SELECT FROM reservations WHERE id = $1 FOR UPDATE")
        .bind(locked)
        .execute(&mut *holder)
        .await
        .unwrap();
    assert_eq!(stage.app.expire_due(SWEEP).await.unwrap(), 1);
    holder.rollback().await.unwrap();
    assert_eq!(stage.app.expire_due(SWEEP).await.unwrap(), 1);
}

#[tokio::test]
async fn a_confirmation_and_the_sweep_race_for_one_hold_and_one_wins() {
    let stage = Stage::with(&[("a", 100)]).await;
    let (mut shipped, mut expired) = (0, 0);
    for _ in 0..30 {
        let id = stage.hold(&[("a", 1)]).await;
        // The end is so close that either may come first.
        sqlx::query("UPDATE reservations SET expires_at = clock_timestamp() + interval '2 ms' WHERE id = $1")
            .bind(id)
            .execute(&stage.admin)
            .await
            .unwrap();
        let (reply, swept) = tokio::join!(stage.confirm(ask(), id), stage.app.expire_due(SWEEP));
        let reply = reply.unwrap();
        swept.unwrap();
        match reply.stored.status {
            200 => {
                shipped += 1;
                assert_eq!(stage.path(id).await, ["held", "confirmed"]);
            }
            410 => {
                expired += 1;
                assert_eq!(problem(&reply), "reservation-expired");
                assert_eq!(stage.path(id).await, ["held", "expired"]);
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!((stage.stock("a").await, shipped + expired), ((100 - shipped, 0), 30));
    stage.assert_sound().await;
}

#[tokio::test]
async fn the_clock_that_decides_expiry_is_read_after_the_wait_for_the_lock() {
    let stage = Stage::with(&[("a", 10)]).await;
    let id = stage.hold(&[("a", 1)]).await;
    sqlx::query("UPDATE reservations SET expires_at = clock_timestamp() + interval '3 s' WHERE id = $1")
        .bind(id)
        .execute(&stage.admin)
        .await
        .unwrap();
    let mut holder = stage.admin.begin().await.unwrap();
    sqlx::query("SELECT FROM reservations FOR UPDATE").execute(&mut *holder).await.unwrap();
    let (reply, ()) = tokio::join!(stage.confirm(ask(), id), async {
        let seen = "SELECT clock_timestamp() > expires_at, (SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock')
            FROM reservations WHERE id = $1";
        let mut waits_in_time = false;
        loop {
            let (is_over, waiting): (bool, i64) =
                sqlx::query_as(seen).bind(id).fetch_one(&stage.admin).await.unwrap();
            waits_in_time |= !is_over && waiting == 1;
            if is_over {
                break;
            }
        }
        assert!(waits_in_time, "the confirm did not reach the lock before the end");
        holder.rollback().await.unwrap();
    });
    assert_eq!(reply.unwrap().stored.status, 410, "sent in time, but it got the lock after the end");
}

#[tokio::test]
async fn the_count_of_holds_reports_how_long_one_is_overdue() {
    let stage = Stage::with(&[("a", 10)]).await;
    let held = stage.app.store.held().await.unwrap();
    assert_eq!((held.count, held.overdue_seconds), (0, 0.0));
    let id: Uuid = stage.hold(&[("a", 1)]).await;
    let held = stage.app.store.held().await.unwrap();
    assert_eq!((held.count, held.overdue_seconds), (1, 0.0), "not due yet");
    sqlx::query("UPDATE reservations SET expires_at = clock_timestamp() - interval '90 s' WHERE id = $1")
        .bind(id)
        .execute(&stage.admin)
        .await
        .unwrap();
    assert!(stage.app.store.held().await.unwrap().overdue_seconds >= 90.0);
}

#[tokio::test]
async fn a_sweep_reads_only_due_holds_by_an_index() {
    let stage = Stage::new().await;
    let (_, statement) = store::statements().into_iter().find(|(name, _)| *name == "expiry::DUE").unwrap();
    let statement =
        statement.replace("$1", "'-infinity'").replace("$2", "gen_random_uuid()").replace("$3", "50");
    let explain = format!("SET enable_seqscan = off; EXPLAIN {statement}");
    let plan: Vec<String> = stage
        .admin
        .fetch_all(sqlx::raw_sql(AssertSqlSafe(explain)))
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(
        plan.iter().any(|line| line.contains("Index Cond:") && line.contains("(expires_at <= now())")),
        "{plan:#?}"
    );
}

/// SET clauses that make a hold unreadable for this release, one for each kind of fault.
const FAULTS: [&str; 5] = [
    "lines = 'null'",
    "lines = '[{\"sku\": \"a\", \"quantity\": 0}]'",
    "head_hash = decode(repeat('00', 31), 'hex')",
    "hlc = 'noon'",
    "expires_at = '-infinity'",
];

#[tokio::test]
async fn holds_that_cannot_be_read_do_not_delay_the_others_and_are_reported() {
    let stage = Stage::with(&[("a", 1_000)]).await;
    stage
        .admin
        .execute("ALTER TABLE reservations DROP CONSTRAINT reservations_head_hash_check")
        .await
        .unwrap();
    let mut first = None;
    // They are more than a batch, and all due before the others.
    for fault in FAULTS.into_iter().cycle().take(60) {
        let id = stage.hold(&[("a", 1)]).await;
        let spoil =
            format!("UPDATE reservations SET expires_at = now() - interval '1 hour', {fault} WHERE id = $1");
        let spoil = spoil.replace("expires_at = now() - interval '1 hour', expires_at", "expires_at");
        sqlx::query(AssertSqlSafe(spoil)).bind(id).execute(&stage.admin).await.unwrap();
        first.get_or_insert(id);
    }
    let good = [stage.hold(&[("a", 2)]).await, stage.hold(&[("a", 3)]).await];
    for id in good {
        stage.let_end(id).await;
    }
    assert_eq!(stage.app.expire_due(SWEEP).await.unwrap(), 2);
    for id in good {
        assert_eq!(stage.status(id).await.unwrap(), "expired");
    }
    let rows = stage.app.conditions().into_iter().find(|c| c.name == "rows").unwrap();
    assert!(!rows.ok && !rows.decides);
    assert!(rows.detail.unwrap().starts_with("60 rows cannot be read by this release: reservations "));
}

#[tokio::test]
async fn a_hold_whose_expiry_the_database_refuses_is_set_aside_and_the_others_expire() {
    let stage = Stage::with(&[("bad", 10), ("good", 10)]).await;
    let (bad, good) = (stage.hold(&[("bad", 1)]).await, stage.hold(&[("good", 1)]).await);
    refuse(&stage, "bad").await;
    stage.let_end(bad).await;
    stage.let_end(good).await;
    assert_eq!(stage.app.expire_due(SWEEP).await.unwrap(), 1);
    assert_eq!(stage.status(good).await.unwrap(), "expired");
    let stuck = || stage.app.conditions().into_iter().find(|c| c.name == "stuck").unwrap();
    assert!(!stuck().ok && stuck().detail.unwrap().contains(&bad.to_string()));

    stage.admin.execute("DROP TRIGGER refuse ON items").await.unwrap();
    assert_eq!(stage.app.expire_due(SWEEP).await.unwrap(), 0, "it is set aside");
    stage.app.try_now();
    assert_eq!(stage.app.expire_due(SWEEP).await.unwrap(), 1, "an operator's request tries it at once");
    assert!(stuck().ok);
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_hold_whose_item_is_locked_for_long_does_not_delay_the_others() {
    let stage = Stage::with(&[("busy", 10), ("free", 10)]).await;
    let (busy, free) = (stage.hold(&[("busy", 1)]).await, stage.hold(&[("free", 1)]).await);
    stage.let_end(busy).await;
    stage.let_end(free).await;
    let mut holder = stage.admin.begin().await.unwrap();
    holder.execute("SELECT FROM items WHERE sku = 'busy' FOR UPDATE").await.unwrap();
    assert_eq!(stage.app.expire_due(SWEEP).await.unwrap(), 1);
    assert_eq!(stage.status(free).await.unwrap(), "expired");
    holder.rollback().await.unwrap();
    stage.app.try_now();
    assert_eq!(stage.app.expire_due(SWEEP).await.unwrap(), 1);
}

#[tokio::test]
async fn an_item_that_can_never_be_written_fails_only_its_own_reservations() {
    let stage = Stage::with(&[("bad", 100), ("good", 100)]).await;
    refuse(&stage, "bad").await;
    let reserving = (0..40).map(|n| {
        let sku = if n % 2 == 0 { "good" } else { "bad" };
        let stage = &stage;
        async move { (sku, stage.reserve(ask(), Uuid::now_v7(), &[(sku, 1)]).await) }
    });
    for (sku, reply) in futures_util::future::join_all(reserving).await {
        match sku {
            "good" => assert_eq!(reply.unwrap().stored.status, 201),
            _ => assert!(matches!(reply, Err(CommandError::WriteRefused(_))), "{reply:?}"),
        }
    }
    assert_eq!((stage.stock("good").await, stage.stock("bad").await), ((100, 20), (100, 0)));
    stage.assert_sound().await;
}

/// Makes the database refuse every change of an item.
async fn refuse(stage: &Stage, sku: &str) {
    let trigger = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON items FOR EACH ROW WHEN (OLD.sku = '{sku}')
             EXECUTE FUNCTION refuse()"
    );
    stage.admin.execute(sqlx::raw_sql(AssertSqlSafe(trigger))).await.unwrap();
}
