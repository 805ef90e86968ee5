//! Tests that one key has one effect and one reply.

use std::time::Duration;

use inventory_service::app::{CommandContext, CommandError};
use journal::DatabaseError;
use mainstay::RequestContext;
use uuid::Uuid;

use crate::support::{Stage, ask, ask_with, body};

const KEY: &str = "0123456789abcdef";

#[tokio::test]
async fn a_repeat_gets_the_same_bytes_and_changes_nothing() {
    let stage = Stage::with(&[("a", 10)]).await;
    let id = Uuid::now_v7();
    let first = stage.reserve(ask_with(KEY), id, &[("a", 3)]).await.unwrap();
    stage.confirm(ask(), id).await.unwrap();
    let again = stage.reserve(ask_with(KEY), id, &[("a", 3)]).await.unwrap();
    assert!(again.replayed && !first.replayed);
    assert_eq!(again.stored, first.stored, "the first reply, although the reservation is confirmed now");
    assert_eq!(again.entry_id, first.entry_id);
    assert_eq!(stage.stock("a").await, (7, 0));
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_refusal_is_replayed_with_its_first_correlation_id_although_stock_was_received() {
    let stage = Stage::with(&[("a", 1)]).await;
    let id = Uuid::now_v7();
    let first_ask = ask_with(KEY);
    let first = stage.reserve(first_ask.clone(), id, &[("a", 3)]).await.unwrap();
    stage.receive(ask(), "a", 100).await.unwrap();
    let again = stage.reserve(ask_with(KEY), id, &[("a", 3)]).await.unwrap();
    assert_eq!((again.stored.clone(), again.replayed), (first.stored, true));
    assert_eq!(body(&again)["correlation_id"], first_ask.context.correlation_id.as_str());
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused_and_does_not_change_the_first() {
    let stage = Stage::with(&[("a", 10)]).await;
    let id = Uuid::now_v7();
    let first = stage.reserve(ask_with(KEY), id, &[("a", 3)]).await.unwrap();
    let mut other = ask_with(KEY);
    other.fingerprint = [9; 32];
    let refused = stage.reserve(other.clone(), Uuid::now_v7(), &[("a", 3)]).await.unwrap_err();
    assert!(matches!(refused, CommandError::KeyReused));
    // Other refusals would be true too: the reservation holds other lines, or does not exist.
    let refused = stage.reserve(other.clone(), id, &[("a", 4)]).await.unwrap_err();
    assert!(matches!(refused, CommandError::KeyReused), "{refused:?}");
    let refused = stage.confirm(other, Uuid::now_v7()).await.unwrap_err();
    assert!(matches!(refused, CommandError::KeyReused), "{refused:?}");
    assert_eq!(stage.reserve(ask_with(KEY), id, &[("a", 3)]).await.unwrap().stored, first.stored);
    assert_eq!(stage.stock("a").await, (10, 3));
}

#[tokio::test]
async fn another_principals_use_of_a_key_is_invisible() {
    let stage = Stage::with(&[("a", 10)]).await;
    let mut other = ask_with(KEY);
    other.cause.principal = "another-principal".into();
    other.fingerprint = [9; 32];
    stage.reserve(ask_with(KEY), Uuid::now_v7(), &[("a", 1)]).await.unwrap();
    let reply = stage.reserve(other, Uuid::now_v7(), &[("a", 1)]).await.unwrap();
    assert_eq!((reply.stored.status, reply.replayed), (201, false));
    assert_eq!(stage.stock("a").await, (10, 2));
}

#[tokio::test]
async fn the_reply_for_a_state_already_reached_is_stored_without_an_entry() {
    let stage = Stage::with(&[("a", 10)]).await;
    let id = stage.hold(&[("a", 1)]).await;
    let confirmed = stage.confirm(ask(), id).await.unwrap();
    let again = stage.confirm(ask_with(KEY), id).await.unwrap();
    assert_eq!((again.stored.clone(), again.replayed), (confirmed.stored, false));
    let replay = stage.confirm(ask_with(KEY), id).await.unwrap();
    assert_eq!((replay.stored, replay.replayed, replay.entry_id), (again.stored, true, confirmed.entry_id));
    assert_eq!(stage.path(id).await, ["held", "confirmed"]);
}

#[tokio::test]
async fn a_request_whose_deadline_has_passed_is_not_begun() {
    let stage = Stage::with(&[("a", 10)]).await;
    let mut late = ask_with(KEY);
    late.context = RequestContext::background(Duration::ZERO);
    let refused = stage.reserve(late, Uuid::now_v7(), &[("a", 1)]).await.unwrap_err();
    assert!(matches!(refused, CommandError::NotExecuted(DatabaseError::Deadline)), "{refused:?}");
    assert_eq!((stage.stock("a").await, stage.keys().await), ((10, 0), 1));
}

#[tokio::test]
async fn a_deadline_that_passes_during_the_wait_for_a_lock_rolls_everything_back() {
    let stage = Stage::with(&[("a", 10)]).await;
    let id = stage.hold(&[("a", 1)]).await;
    let mut holder = stage.admin.begin().await.unwrap();
    sqlx::query("SELECT FROM items FOR UPDATE").execute(&mut *holder).await.unwrap();
    sqlx::query("SELECT FROM reservations FOR UPDATE").execute(&mut *holder).await.unwrap();
    let context = RequestContext::background(Duration::from_secs(4));
    let hurried = || CommandContext { context: context.clone(), ..ask() };
    let items = [("a", 1)];
    let (reserved, confirmed, released, received, ()) = tokio::join!(
        stage.reserve(hurried(), Uuid::now_v7(), &items),
        stage.confirm(hurried(), id),
        stage.release(hurried(), id),
        stage.receive(hurried(), "a", 1),
        async {
            let waiting = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'";
            while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&stage.admin).await.unwrap() < 4 {
                assert!(!context.deadline.has_passed(), "not all requests reached the lock");
            }
            tokio::time::sleep_until(context.deadline.instant()).await;
            holder.rollback().await.unwrap();
        }
    );
    for result in [reserved, confirmed, released, received] {
        let refused = result.unwrap_err();
        assert!(matches!(refused, CommandError::NotExecuted(DatabaseError::Deadline)), "{refused:?}");
    }
    assert_eq!((stage.stock("a").await, stage.path(id).await), ((10, 1), vec!["held".to_owned()]));
    stage.assert_sound().await;
}

#[tokio::test]
async fn a_key_whose_first_request_has_not_ended_is_in_flight() {
    let stage = Stage::with(&[("a", 10)]).await;
    // Inventory never writes such a row. A reader that finds one must not treat the key as free.
    let ask = ask_with(KEY);
    sqlx::query("INSERT INTO idempotency (principal, key_hash, fingerprint, command, aggregate_id) VALUES ($1, $2, $3, 'reserve', $4)")
        .bind(&ask.cause.principal)
        .bind(ask.key_hash.as_bytes())
        .bind(ask.fingerprint)
        .bind(Uuid::nil())
        .execute(&stage.admin)
        .await
        .unwrap();
    let refused = stage.reserve(ask, Uuid::now_v7(), &[("a", 1)]).await.unwrap_err();
    assert!(matches!(refused, CommandError::InFlight));
}

#[test]
fn the_openapi_description_says_how_long_a_key_is_kept() {
    let told = <inventory_service::http::Description as utoipa::OpenApi>::openapi().info.description.unwrap();
    assert!(told.contains(&format!("for {} days", journal::idempotency::RETENTION_DAYS)), "{told}");
}

#[tokio::test]
async fn keys_are_deleted_a_week_after_their_reply_and_not_while_their_reservation_is_held() {
    let stage = Stage::with(&[("a", 10)]).await;
    let id = Uuid::now_v7();
    stage.reserve(ask_with(KEY), id, &[("a", 1)]).await.unwrap();
    let delete_expired = || async { journal::retention::delete_expired(stage.app.database()).await.unwrap() };
    assert_eq!(delete_expired().await, 0);
    let older = "UPDATE idempotency SET completed_at = now() - interval '7 days 1 second'";
    sqlx::query(older).execute(&stage.admin).await.unwrap();
    assert_eq!(delete_expired().await, 1, "the key of the item, whose state cannot change");
    stage.release(ask(), id).await.unwrap();
    assert_eq!(delete_expired().await, 1, "the reservation is released");
    assert_eq!(stage.keys().await, 1, "the release's key is younger");
}
