//! Holds whose time is up, beside orders that hang and beside inventory's other states.

use std::time::Duration;

use chassis::tasks::Tasks;
use order_service::app::CommandResult;
use order_service::reconcile;
use serde_json::json;
use testkit::eventually;
use testkit::proxy::{Fault, Point, When};
use uuid::Uuid;

use crate::support::{PATIENCE, Stage, command};

/// An order that inventory has not decided, and its reservation.
async fn placed(stage: &Stage, key: &str) -> (Uuid, Uuid) {
    let (placing, began) = stage.place(command(key, Duration::from_secs(1)));
    let (done, order) = tokio::join!(placing, began);
    assert!(matches!(done, Ok(CommandResult::Pending(_))), "{done:?}");
    let order = order.unwrap();
    (order.id, order.reservation_id)
}

/// Makes an order reserved, with a hold whose time is up.
async fn end_hold(stage: &Stage, id: Uuid, tries: i32) {
    let ended = "UPDATE orders SET status = 'reserved', holder = NULL, due_at = NULL, tries = $2,
                  expires_at = now() - interval '1 minute' WHERE id = $1";
    sqlx::query(ended).bind(id).bind(tries).execute(&stage.admin).await.unwrap();
}

/// Has inventory answer every read of a reservation.
fn answer(stage: &Stage, status: u16, body: &serde_json::Value) {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Answer\r\ncontent-type: application/json\r\ncontent-length: {}",
        body.len()
    );
    let reply = format!("{head}\r\n\r\n{body}").into_bytes();
    stage.hop.script(When::every("GET /v1/reservations/"), Fault::Answer(reply));
}

fn reservation(order: Uuid, id: Uuid, status: &str) -> serde_json::Value {
    json!({"id": id, "order_id": order, "status": status, "lines": [{"sku": "A", "quantity": 1}],
        "expires_at": "2026-01-01T00:00:00Z"})
}

#[tokio::test]
async fn orders_that_hang_do_not_delay_the_holds_whose_time_is_up() {
    let stage = Stage::new().await;
    let (hanging, _) = placed(&stage, "the-key-of-the-hanging-order").await;
    let (held, its_reservation) = placed(&stage, "the-key-of-the-other-order").await;
    end_hold(&stage, held, 0).await;
    let later = "UPDATE orders SET expires_at = now() + interval '1 hour' WHERE id = $1";
    sqlx::query(later).bind(held).execute(&stage.admin).await.unwrap();
    let due = "UPDATE orders SET holder = NULL, due_at = now(), tries = 0 WHERE id = $1";
    sqlx::query(due).bind(hanging).execute(&stage.admin).await.unwrap();
    stage.hop.heal();
    stage.hop.script(When::every("POST /v1/reservations"), Fault::Hold(Point::Request));
    answer(&stage, 200, &reservation(held, its_reservation, "expired"));

    let tasks = Tasks::new();
    reconcile::run(&stage.app, &tasks, &evidence::Recorder::off());
    let read = async |id: Uuid| -> (String, Option<String>, i32) {
        let row = "SELECT status, holder, tries FROM orders WHERE id = $1";
        sqlx::query_as(row).bind(id).fetch_one(&stage.admin).await.unwrap()
    };
    eventually("the call for the hanging order is under way", PATIENCE, || async {
        let row = read(hanging).await;
        if row.1.as_deref() == Some("reconciler") { Ok(()) } else { Err(format!("{row:?}")) }
    })
    .await;
    let before = read(hanging).await.2;
    end_hold(&stage, held, 0).await;
    eventually("the hold is looked at", PATIENCE, || async {
        let row = read(held).await;
        if row.0 == "expired" { Ok(()) } else { Err(format!("{row:?}")) }
    })
    .await;
    assert_eq!(read(hanging).await.2, before, "the hanging order's call has not ended yet");
    tasks.stop();
}

#[tokio::test]
async fn a_reservation_that_ended_without_its_order_is_reported_and_seldom_asked_about() {
    let gone = json!({"type": "urn:mainstay:problem:not-found", "title": "Nothing", "status": 404, "retryable": false,
        "same_key": true});
    for state in ["released", "confirmed", "refused", "voided", "absent", "held"] {
        let stage = Stage::new().await;
        let (id, reserved) = placed(&stage, "the-key-of-this-order").await;
        end_hold(&stage, id, 9).await;
        stage.hop.heal();
        if state == "absent" {
            answer(&stage, 404, &gone);
        } else {
            answer(&stage, 200, &reservation(id, reserved, state));
        }
        let swept = reconcile::sweep(&stage.app, "operator:test").await.unwrap();
        assert_eq!((swept.taken, swept.waiting), (1, 1), "{state}");
        let row = "SELECT status, fruitless_why, extract(epoch FROM due_at - clock_timestamp())::float8
                   FROM orders WHERE id = $1";
        let (status, why, due): (String, String, f64) =
            sqlx::query_as(row).bind(id).fetch_one(&stage.admin).await.unwrap();
        assert_eq!(status, "reserved", "no entry of inventory's says that it expired");
        if state == "held" {
            assert!(due < 2.0, "inventory may be about to end it: {due}");
        } else {
            assert!(why.contains(state) && due > 60.0, "{why}; {due} s");
        }
    }
}
