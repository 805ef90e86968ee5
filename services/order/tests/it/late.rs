//! Tests of deadlines that pass while a request waits for the database.

use std::time::Duration;

use journal::DatabaseError;
use order_service::app::{CommandError, CommandResult};
use order_service::domain::CustomerCommand;
use tokio::sync::oneshot;

use crate::support::{Stage, command};

const SOON: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_command_that_locks_its_order_after_its_deadline_does_nothing() {
    let stage = Stage::new().await;
    let (placing, began) = stage.place(command("the-key-of-this-order", SOON));
    let (placed, order) = tokio::join!(placing, began);
    assert!(matches!(placed, Ok(CommandResult::Pending(_))), "{placed:?}");
    let id = order.unwrap().id;
    let before = stage.traces(id).await;

    let mut other = stage.admin.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM orders WHERE id = $1 FOR UPDATE").bind(id).execute(&mut *other).await.unwrap();
    let command = command("the-key-of-the-cancel", SOON);
    let deadline = command.driver.context.deadline.instant();
    let cancel = stage.app.customer_command(command, id, CustomerCommand::Cancel, oneshot::channel().0);
    let releasing_the_lock = async {
        stage.waits_for_a_lock().await;
        tokio::time::sleep_until(deadline).await;
        other.commit().await.unwrap();
    };
    let (refused, ()) = tokio::join!(cancel, releasing_the_lock);
    assert!(matches!(refused, Err(CommandError::Database(DatabaseError::Deadline))), "{refused:?}");
    assert_eq!(stage.traces(id).await, before, "no statement was sent that would have to be rolled back");
}

#[tokio::test]
async fn a_key_that_is_free_only_after_the_deadline_places_nothing_and_a_taken_key_is_not_read_then() {
    let stage = Stage::new().await;
    let key = "the-key-of-this-order";
    // A busy machine needs much of this time to get as far as the lock.
    let some_time = 3 * SOON;
    let place_late = async || {
        let mut other = stage.admin.begin().await.unwrap();
        sqlx::query("LOCK TABLE idempotency").execute(&mut *other).await.unwrap();
        let command = command(key, some_time);
        let deadline = command.driver.context.deadline.instant();
        let (placing, began) = stage.place(command);
        let releasing_the_lock = async {
            stage.waits_for_a_lock().await;
            tokio::time::sleep_until(deadline).await;
            other.commit().await.unwrap();
        };
        let (ended, ()) = tokio::join!(placing, releasing_the_lock);
        began.await.unwrap_err();
        ended
    };
    let free = place_late().await;
    assert!(matches!(free, Err(CommandError::Database(DatabaseError::Deadline))), "{free:?}");
    let orders: i64 =
        sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&stage.admin).await.unwrap();
    assert_eq!(orders, 0);

    let (placing, _began) = stage.place(command(key, SOON));
    assert!(placing.await.is_ok());
    let taken = place_late().await;
    assert!(matches!(taken, Err(CommandError::KeyUnreadable(DatabaseError::Deadline))), "{taken:?}");
}

#[tokio::test]
async fn of_two_orders_in_one_transaction_the_order_that_waited_beyond_its_deadline_is_not_placed() {
    let stage = Stage::new().await;
    // This occupies the only connection.
    let occupied =
        stage.app.store.database().read(None, (), |connection, ()| {
            Box::pin(sqlx::query("SELECT pg_sleep(0.5)").execute(connection))
        });
    let (late, began) = stage.place(command("the-key-of-the-late-one", SOON / 4));
    let (in_time, _begun) = stage.place(command("the-key-of-the-one-in-time", 4 * SOON));
    let (occupied, late, in_time) = tokio::join!(occupied, late, in_time);
    occupied.unwrap();
    assert!(matches!(late, Err(CommandError::Database(DatabaseError::Deadline))), "{late:?}");
    began.await.unwrap_err();
    assert!(matches!(in_time, Ok(CommandResult::Pending(_))), "{in_time:?}");
    let orders: i64 =
        sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&stage.admin).await.unwrap();
    assert_eq!(orders, 1);
}
