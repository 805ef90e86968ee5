//! Tests of rows that this release cannot read, beside readable rows.

use std::time::Duration;

use journal::DatabaseError;
use order_service::app::{CommandError, CommandResult};
use order_service::domain::CustomerCommand;
use order_service::reconcile;
use order_service::store::StoredStatus;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::{PATIENCE, Stage, command};

const SOON: Duration = Duration::from_secs(1);

/// An order that inventory has not decided.
async fn undecided(stage: &Stage, key: &str) -> Uuid {
    let (placing, began) = stage.place(command(key, SOON));
    let (placed, order) = tokio::join!(placing, began);
    assert!(matches!(placed, Ok(CommandResult::Pending(_))), "{placed:?}");
    order.unwrap().id
}

async fn set_status(stage: &Stage, id: Uuid, status: &str) {
    let set =
        "UPDATE orders SET status = $2, due_at = now() - interval '1 hour', holder = NULL WHERE id = $1";
    sqlx::query(set).bind(id).bind(status).execute(&stage.admin).await.unwrap();
}

#[tokio::test]
async fn an_order_of_an_unknown_status_blocks_only_itself_and_is_reported() {
    let stage = Stage::new().await;
    let foreign = undecided(&stage, "the-key-of-the-foreign-one").await;
    let good = undecided(&stage, "the-key-of-the-good-one").await;
    set_status(&stage, foreign, "splitting").await;
    sqlx::query("UPDATE orders SET due_at = now() WHERE id = $1")
        .bind(good)
        .execute(&stage.admin)
        .await
        .unwrap();
    stage.hop.close().await;
    let swept = reconcile::sweep(&stage.app, "operator:an-operator").await.unwrap();
    assert_eq!((swept.taken, swept.waiting), (1, 1), "the other order was tried");

    stage.app.read_unresolved().await.unwrap();
    let rows = stage.app.conditions().into_iter().find(|condition| condition.name == "rows").unwrap();
    let detail = rows.detail.unwrap();
    assert!(!rows.ok && !rows.decides, "{detail}");
    assert!(detail.contains(&foreign.to_string()) && detail.contains("splitting"), "{detail}");

    // Requests for the order itself get an answer too.
    let refused = stage
        .app
        .customer_command(
            command("the-key-of-the-cancel", PATIENCE),
            foreign,
            CustomerCommand::Cancel,
            oneshot::channel().0,
        )
        .await;
    assert!(
        matches!(&refused, Err(CommandError::UnknownStatus { from, .. }) if from == "splitting"),
        "{refused:?}"
    );
    let (repeating, _) = stage.place(command("the-key-of-the-foreign-one", PATIENCE));
    let repeated = repeating.await;
    assert!(
        matches!(&repeated, Ok(CommandResult::Pending(order)) if order.status == StoredStatus::Unknown("splitting".to_owned())),
        "{repeated:?}"
    );
}

/// Checks the detail of one order that has waited for 42 s, or for some seconds more on a slow machine.
fn assert_waits(detail: &str, id: Uuid) {
    let (age, named) = detail
        .strip_prefix("1 order has waited longer than 10 s, the oldest ")
        .unwrap()
        .split_once(" s: ")
        .unwrap();
    assert!((42..600).contains(&age.parse::<u32>().unwrap()) && named == id.to_string(), "{detail}");
}

#[tokio::test]
async fn orders_that_wait_long_are_reported_and_so_is_an_old_reading() {
    let stage = Stage::new().await;
    let condition = |name: &str| stage.app.conditions().into_iter().find(|c| c.name == name).unwrap();
    let id = undecided(&stage, "the-key-of-this-order").await;
    stage.app.read_unresolved().await.unwrap();
    assert!(condition("orders").ok && condition("stuck").ok && condition("rows").ok);

    let long_ago =
        "UPDATE orders SET status_since = now() - interval '42 seconds', failed_alone = 3 WHERE id = $1";
    sqlx::query(long_ago).bind(id).execute(&stage.admin).await.unwrap();
    stage.app.read_unresolved().await.unwrap();
    let (orders, stuck) = (condition("orders"), condition("stuck"));
    assert!(!orders.ok && !orders.decides && !stuck.ok && !stuck.decides);
    assert_waits(&orders.detail.unwrap(), id);
    assert!(stuck.detail.unwrap().contains(&id.to_string()));

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(12)).await;
    let began = Instant::now();
    let old = condition("orders");
    assert_eq!(began.elapsed(), Duration::ZERO, "a probe does not query the database");
    assert!(!old.ok);
    assert!(old.detail.unwrap().contains("last counted 12 s ago"));
}

#[tokio::test]
async fn the_age_of_a_waiting_order_does_not_depend_on_the_services_clock() {
    let stage = Stage::new().await;
    stage.hop.close().await;
    let id = undecided(&stage, "the-key-of-this-order").await;
    for services_clock in ["-1 hour", "1 hour"] {
        let skewed = "UPDATE orders SET updated_at = now() + $2::interval, failed_alone = 3,
            status_since = now() - interval '42 seconds' WHERE id = $1";
        sqlx::query(skewed).bind(id).bind(services_clock).execute(&stage.admin).await.unwrap();
        stage.app.read_unresolved().await.unwrap();
        let orders = stage.app.conditions().into_iter().find(|c| c.name == "orders").unwrap();
        assert_waits(&orders.detail.unwrap(), id);
        let waiting = stage.app.store.unresolved(None, 0.0, 1).await.unwrap().stuck[0].waiting_seconds;
        assert!((42.0..600.0).contains(&waiting), "{services_clock}: {waiting}");
    }
    // The database sets the time at each transition.
    let cancelling = stage.app.customer_command(
        command("the-key-of-the-cancel", SOON),
        id,
        CustomerCommand::Cancel,
        oneshot::channel().0,
    );
    assert!(matches!(cancelling.await, Ok(CommandResult::Pending(_))));
    let age = "SELECT extract(epoch FROM clock_timestamp() - status_since)::float8 FROM orders WHERE id = $1";
    let age: f64 = sqlx::query_scalar(age).bind(id).fetch_one(&stage.admin).await.unwrap();
    assert!((0.0..40.0).contains(&age), "{age}");
}

#[tokio::test]
async fn a_locked_row_that_the_database_does_not_change_is_a_defect() {
    let stage = Stage::new().await;
    let id = undecided(&stage, "the-key-of-this-order").await;
    let skip = "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER skip BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION skip()";
    sqlx::raw_sql(skip).execute(&stage.admin).await.unwrap();
    let cancel = command("the-key-of-the-cancel", PATIENCE);
    let refused = stage.app.customer_command(cancel, id, CustomerCommand::Cancel, oneshot::channel().0).await;
    assert!(matches!(refused, Err(CommandError::Database(DatabaseError::Defect(_)))), "{refused:?}");
}
