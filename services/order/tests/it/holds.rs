//! Holds whose time is up, and inventory's other states.

use std::time::Duration;

use order_service::app::Done;
use order_service::reconcile;
use serde_json::json;
use testkit::proxy::{Fault, When};
use uuid::Uuid;

use crate::support::{Stage, caller};

/// An order that inventory has not decided, and its reservation.
async fn placed(stage: &Stage, key: &str) -> (Uuid, Uuid) {
    let (placing, began) = stage.place(caller(key, Duration::from_secs(1)));
    let (done, order) = tokio::join!(placing, began);
    assert!(matches!(done, Ok(Done::Pending(_))), "{done:?}");
    let order = order.unwrap();
    (order.id, order.reservation_id)
}

/// Makes an order reserved, with a hold whose time is up.
async fn lapse(stage: &Stage, id: Uuid, tries: i32) {
    let lapsed = "UPDATE orders SET status = 'reserved', holder = NULL, due_at = NULL, tries = $2,
                  expires_at = now() - interval '1 minute' WHERE id = $1";
    sqlx::query(lapsed).bind(id).bind(tries).execute(&stage.admin).await.unwrap();
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
async fn a_reservation_that_ended_behind_the_orders_back_is_told_and_seldom_asked_about() {
    let gone = json!({"type": "urn:mainstay:problem:not-found", "title": "Nothing", "status": 404, "retryable": false,
        "same_key": true});
    for state in ["released", "confirmed", "refused", "voided", "absent", "held"] {
        let stage = Stage::new().await;
        let (id, reserved) = placed(&stage, "the-key-of-this-order").await;
        lapse(&stage, id, 9).await;
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
