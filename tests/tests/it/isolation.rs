//! Tests of one bad order, row or write beside good ones.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use local::Service;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};
use testkit::eventually;
use testkit::pair::TestPair;
use testkit::proxy::{Fault, When};
use tokio::time::{Instant, interval};

use crate::support::{RESOLVED, becomes, order, pair, reserved, setup, sound, stock};

/// Bound on the time in which the other orders are resolved.
const OTHERS_RESOLVED: Duration = Duration::from_secs(5);

/// Runs SQL as the owner of a service's database.
async fn as_owner(pair: &TestPair, service: Service, sql: &str) {
    let mut owner = PgConnection::connect(pair.database(service).owner_url()).await.unwrap();
    owner.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
}

/// The conditions of a replica's readiness, by name.
async fn conditions(pair: &TestPair, service: Service) -> BTreeMap<String, Value> {
    let ready = pair.ops(service, 0).get("/readyz").send().await.unwrap().expect(200).json();
    let all = ready["conditions"].as_array().unwrap().clone();
    all.into_iter().map(|condition| (condition["name"].as_str().unwrap().to_owned(), condition)).collect()
}

/// The value of a series in a replica's metrics. `series` is the name with its labels.
pub(crate) async fn metric(pair: &TestPair, service: Service, series: &str) -> Option<f64> {
    let text = pair.ops(service, 0).get("/metrics").send().await.unwrap().expect(200);
    let text = String::from_utf8(text.body.to_vec()).unwrap();
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

async fn undecided(pair: &TestPair, sku: &str) -> String {
    let call = order(pair, &[(sku, 1)]).deadline(Duration::from_millis(900));
    call.send().await.unwrap().expect(202).json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn orders_that_cannot_be_read_do_not_keep_the_reconciler_from_the_others_and_are_reported() {
    let pair = pair().await;
    pair.hop().close().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(undecided(&pair, "A").await);
    }
    let faults = ["status = 'splitting'", "lines = 'null'", "updated_at = 'infinity'"];
    let admin = pair.database(Service::Order).admin();
    let mut admin = PgConnection::connect_with(&admin).await.unwrap();
    for (id, fault) in ids.iter().zip(faults) {
        let spoil = format!("UPDATE orders SET {fault}, due_at = now() WHERE id = '{id}'");
        admin.execute(AssertSqlSafe(spoil)).await.unwrap();
    }
    let back = Instant::now();
    pair.hop().open().await;
    for id in &ids[faults.len()..] {
        becomes(&pair, id, "reserved").await;
    }
    assert!(back.elapsed() < OTHERS_RESOLVED, "{:?}", back.elapsed());

    let rows = eventually("readiness names all three", RESOLVED, || async {
        let rows = conditions(&pair, Service::Order).await.remove("rows").unwrap();
        let detail = rows["detail"].as_str().unwrap_or_default().to_owned();
        if ids[..faults.len()].iter().all(|id| detail.contains(id)) { Ok(rows) } else { Err(detail) }
    })
    .await;
    assert_eq!((&rows["ok"], &rows["decides"]), (&false.into(), &false.into()), "others are served");
    assert_eq!(metric(&pair, Service::Order, "mainstay_rows_unreadable{table=\"orders\"}").await, Some(3.0));

    // A list and a read show an order of an unknown status as it is, and name an order that they cannot show.
    let page = pair.client().get("/v1/orders").send().await.unwrap().expect(200).json();
    assert_eq!(
        (page["items"][0]["id"].as_str(), &page["items"][0]["status"]),
        (Some(&*ids[0]), &"splitting".into())
    );
    assert_eq!(page["items"].as_array().unwrap().len(), 4);
    let unreadable: Vec<_> = page["unreadable"].as_array().unwrap().iter().map(|u| u["id"].clone()).collect();
    assert_eq!(unreadable, ids[1..3]);
    let one = pair.client().get(&format!("/v1/orders/{}", ids[0])).send().await.unwrap().expect(200).json();
    assert_eq!(one["status"], "splitting");
    pair.client().get(&format!("/v1/orders/{}/history", ids[0])).send().await.unwrap().expect(200);
    let refused =
        pair.client().post(&format!("/v1/orders/{}/cancel", ids[0])).send().await.unwrap().expect(409);
    assert_eq!((&refused.json()["from"], &refused.json()["retryable"]), (&"splitting".into(), &true.into()));
}

/// SQL that makes inventory's database refuse every write of one item, until the trigger is dropped.
const REFUSE_ONE: &str =
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
     CREATE TRIGGER refuse BEFORE UPDATE ON items FOR EACH ROW WHEN (OLD.sku = 'C') EXECUTE FUNCTION refuse()";

/// Places `count` good orders, one each `every`, and gives the number of replies with 201.
async fn good_orders(pair: &TestPair, count: usize, every: Duration) -> usize {
    orders(pair, "A", count, every).await
}

async fn orders(pair: &TestPair, sku: &str, count: usize, every: Duration) -> usize {
    let mut due = interval(every);
    let mut placed = Vec::new();
    for _ in 0..count {
        due.tick().await;
        placed.push(tokio::spawn(order(pair, &[(sku, 1)]).send()));
    }
    let replies = join_all(placed).await;
    replies.into_iter().filter(|reply| matches!(reply, Ok(Ok(reply)) if reply.status.as_u16() == 201)).count()
}

#[tokio::test]
async fn orders_that_can_never_be_written_do_not_keep_the_others_from_their_replies() {
    let pair = pair().await;
    as_owner(&pair, Service::Inventory, REFUSE_ONE).await;
    let placing = (0..5).map(|_| order(&pair, &[("C", 1)]).send());
    let poisoned: Vec<_> = join_all(placing)
        .await
        .into_iter()
        .map(|reply| reply.unwrap().expect(202).json()["id"].as_str().unwrap().to_owned())
        .collect();
    // Two orders a second for ten seconds, then twenty a second for three, then the same beside ten new bad orders a second.
    assert_eq!(good_orders(&pair, 20, Duration::from_millis(500)).await, 20);
    assert_eq!(good_orders(&pair, 60, Duration::from_millis(50)).await, 60);
    let (good, bad) = tokio::join!(
        orders(&pair, "A", 60, Duration::from_millis(50)),
        orders(&pair, "C", 30, Duration::from_millis(100))
    );
    assert_eq!((good, bad), (60, 0));

    // The bad orders are set apart, and an operator sees them.
    let operator = pair.ops(Service::Order, 0);
    eventually("all five are set apart", RESOLVED, || async {
        good_orders(&pair, 1, Duration::from_millis(1)).await;
        let stuck = operator.get("/admin/v1/orders/stuck").send().await?.expect(200).json();
        let ids: Vec<_> = stuck["items"].as_array().unwrap().iter().map(|o| o["id"].clone()).collect();
        anyhow::ensure!(poisoned.iter().all(|id| ids.contains(&id.as_str().into())), "{stuck}");
        let told = conditions(&pair, Service::Order).await;
        anyhow::ensure!(told["stuck"]["ok"] == false && told["orders"]["ok"] == false, "{told:?}");
        let gauge = metric(&pair, Service::Order, "mainstay_orders_stuck").await;
        anyhow::ensure!(gauge.is_some_and(|stuck| stuck >= 5.0), "{gauge:?}");
        Ok(())
    })
    .await;

    // After the cause is gone, an operator's request tries them before their back-off ends: sixteen at once.
    as_owner(&pair, Service::Inventory, "DROP TRIGGER refuse ON items").await;
    operator.post("/admin/v1/reconcile").send().await.unwrap().expect(200);
    for id in &poisoned {
        becomes(&pair, id, "reserved").await;
    }
    sound(&pair).await;
    assert_eq!(stock(&pair, "C").await, (1_000, 35));
}

#[tokio::test]
async fn repeats_of_orders_that_fail_without_a_named_cause_do_not_open_the_breaker_again() {
    let pair = pair().await;
    // The error has the code of a missing privilege: inventory replies `internal`, as when nothing can be written.
    let refuse = REFUSE_ONE.replace("'refused';", "'refused' USING ERRCODE = '42501';");
    as_owner(&pair, Service::Inventory, &refuse).await;
    for placed in join_all((0..5).map(|_| order(&pair, &[("C", 1)]).send())).await {
        placed.unwrap().expect(202);
    }
    // The first tries of the bad orders may have opened the breaker.
    eventually("the breaker has closed", RESOLVED, || async {
        good_orders(&pair, 1, Duration::from_millis(1)).await == 1
    })
    .await;
    assert_eq!(good_orders(&pair, 40, Duration::from_millis(250)).await, 40);
    as_owner(&pair, Service::Inventory, "DROP TRIGGER refuse ON items").await;
    sound(&pair).await;
}

#[tokio::test]
async fn a_hold_that_cannot_be_expired_does_not_keep_the_others_from_expiring() {
    let pair = setup().env(Service::Order, "HOLD_SECONDS", "1").start().await.unwrap();
    for sku in ["A", "C"] {
        pair.stock(sku, 10).await;
    }
    let bad = reserved(&pair, &[("C", 1)]).await;
    as_owner(&pair, Service::Inventory, REFUSE_ONE).await;
    let good = reserved(&pair, &[("A", 1)]).await;
    becomes(&pair, &good, "expired").await;
    eventually("inventory names the hold", RESOLVED, || async {
        let told = conditions(&pair, Service::Inventory).await;
        if told["stuck"]["ok"] == false { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    as_owner(&pair, Service::Inventory, "DROP TRIGGER refuse ON items").await;
    becomes(&pair, &bad, "expired").await;
    sound(&pair).await;
}

#[tokio::test]
async fn orders_that_failed_in_an_outage_are_resolved_within_seconds_of_its_end() {
    let pair = pair().await;
    assert_eq!(
        good_orders(&pair, 4, Duration::from_millis(100)).await,
        4,
        "inventory serves before the outage"
    );
    pair.hop().script(When::every("/v1/reservations"), Fault::Answer(Fault::nonsense(500)));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(undecided(&pair, "A").await);
    }
    let admin = PgPool::connect_lazy_with(pair.database(Service::Order).admin());
    eventually("each has been tried beyond the quick tries", RESOLVED, || async {
        let tries = "SELECT min(tries) FROM orders WHERE due_at IS NOT NULL";
        sqlx::query_scalar::<_, i32>(tries).fetch_one(&admin).await.unwrap() >= 6
    })
    .await;
    let over = Instant::now();
    pair.hop().heal();
    for id in &ids {
        becomes(&pair, id, "reserved").await;
    }
    assert!(over.elapsed() < OTHERS_RESOLVED, "{:?}", over.elapsed());
    sound(&pair).await;
}
