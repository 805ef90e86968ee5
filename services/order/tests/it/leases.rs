//! Tests of leases: their length, and the release of a lease whose operator disconnected.

use std::time::Duration;

use chassis::tasks::Tasks;
use order_service::app::CommandResult;
use order_service::domain::CustomerCommand;
use order_service::reconcile;
use testkit::{eventually, eventually_now};
use tokio::sync::oneshot;
use tower::ServiceExt;
use uuid::Uuid;

use crate::operated::reconcile_now;
use crate::support::{PATIENCE, Stage, command};

#[tokio::test]
async fn a_request_with_much_time_leases_its_order_for_fifteen_seconds() {
    const LONGEST: Duration = Duration::from_secs(30);
    let stage = Stage::new().await;
    let (placing, began) = stage.place(command("the-key-of-this-order", LONGEST));
    let cancelling = async {
        let id = began.await.unwrap().id;
        let placed = lease(&stage, id).await;
        let (begun, began) = oneshot::channel();
        let cancel = stage.app.customer_command(
            command("the-key-of-the-cancel", LONGEST),
            id,
            CustomerCommand::Cancel,
            begun,
        );
        let cancelled = async {
            began.await.unwrap();
            lease(&stage, id).await
        };
        tokio::select! {
            done = cancel => unreachable!("inventory does not answer: {done:?}"),
            cancelled = cancelled => (placed, cancelled),
        }
    };
    let (placed, cancelled) = tokio::select! {
        done = placing => unreachable!("inventory does not answer: {done:?}"),
        leases = cancelling => leases,
    };
    assert!(placed <= 15.0 && cancelled <= 15.0, "{placed} s and {cancelled} s");
}

/// Seconds until the end of the order's lease.
async fn lease(stage: &Stage, id: Uuid) -> f64 {
    let left = "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM orders
                WHERE id = $1 AND holder = 'request'";
    sqlx::query_scalar(left).bind(id).fetch_one(&stage.admin).await.unwrap()
}

#[tokio::test]
async fn an_operator_who_disconnects_leaves_no_order_leased() {
    let stage = Stage::new().await;
    let (placing, began) = stage.place(command("the-key-of-this-order", Duration::from_secs(1)));
    let (placed, order) = tokio::join!(placing, began);
    assert!(matches!(placed, Ok(CommandResult::Pending(_))), "{placed:?}");
    let id = order.unwrap().id;
    stage.hop.release_all();

    let tasks = Tasks::new();
    let asking = reconcile::admin::routes(stage.app.clone(), tasks.clone()).oneshot(reconcile_now());
    tokio::select! {
        reply = asking => unreachable!("inventory does not answer: {reply:?}"),
        () = eventually_now("inventory is asked", PATIENCE, || !stage.hop.held().is_empty()) => {}
    }
    // The operator has disconnected; now the call to inventory ends.
    stage.hop.close().await;
    eventually("the order is put back", PATIENCE, || async {
        let holder = "SELECT holder FROM orders WHERE id = $1";
        let holder: Option<String> =
            sqlx::query_scalar(holder).bind(id).fetch_one(&stage.admin).await.unwrap();
        holder.map_or(Ok(()), Err)
    })
    .await;
}
