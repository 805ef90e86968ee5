//! Tests of requests whose order exists while the database has no connection to read its state: the reply is no refusal.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use journal::DatabaseError;
use order_service::app::{CommandError, CommandResult};

use crate::support::{PATIENCE, Stage, command};

#[tokio::test]
async fn a_request_whose_order_was_taken_over_gets_the_order_even_when_its_key_cannot_be_read() {
    let stage = Stage::new().await;
    let (placing, began) = stage.place(command("the-key-of-this-order", PATIENCE));
    let taking_over = async {
        let order = began.await.unwrap();
        let mut other = stage.admin.begin().await.unwrap();
        sqlx::query("UPDATE orders SET epoch = epoch + 1 WHERE id = $1")
            .bind(order.id)
            .execute(&mut *other)
            .await
            .unwrap();
        stage.hop.close().await;
        // The service is recording the answer. `occupy` is next in line for the connection, and keeps it.
        stage.waits_long_for_a_lock().await;
        let mut occupied = pin!(stage.occupy());
        assert!(occupied.as_mut().now_or_never().is_none());
        other.commit().await.unwrap();
        occupied.await;
    };
    let done = tokio::select! {
        done = placing => done,
        () = taking_over => unreachable!("the connection is occupied for longer than any request waits"),
    };
    assert!(matches!(done, Ok(CommandResult::Pending(_))), "{done:?}");
}

#[tokio::test]
async fn a_repeat_whose_key_cannot_be_read_has_an_unknown_outcome() {
    let stage = Stage::new().await;
    let key = "a-key-that-is-used-twice";
    let (placing, began) = stage.place(command(key, Duration::from_secs(1)));
    let (done, began) = tokio::join!(placing, began);
    assert!(matches!(done, Ok(CommandResult::Pending(_))) && began.is_ok(), "{done:?}");

    let mut other = stage.admin.begin().await.unwrap();
    sqlx::query("LOCK TABLE idempotency").execute(&mut *other).await.unwrap();
    let (repeating, _began) = stage.place(command(key, PATIENCE));
    let in_the_way = async {
        // The claim waits for the lock. `occupy` is next in line for the connection, and keeps it.
        stage.waits_long_for_a_lock().await;
        let mut occupied = pin!(stage.occupy());
        assert!(occupied.as_mut().now_or_never().is_none());
        other.commit().await.unwrap();
        occupied.await;
    };
    let refused = tokio::select! {
        refused = repeating => refused,
        () = in_the_way => unreachable!("the connection is occupied for longer than any request waits"),
    };
    assert!(matches!(refused, Err(CommandError::KeyUnreadable(DatabaseError::Busy(_)))), "{refused:?}");
}
