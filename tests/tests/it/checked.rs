//! Tests of the checker with the pair: ordinary use gives every rule something to check, and the checker reports a change
//! that no service made.

use checker::Rule;
use local::Service;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::pair::TestPair;

use crate::support::{RESOLVED, becomes, command, order, pair, reserved};

/// Ordinary use: an order that is confirmed and replayed, one that is cancelled, one that is refused for too little stock,
/// and one that is shed.
async fn ordinary_use(pair: &TestPair) {
    let id = reserved(pair, &[("A", 6), ("B", 1)]).await;
    for _ in 0..2 {
        command(pair, &id, "confirm").key("confirmed-only-once").send().await.unwrap().expect(200);
    }
    let id = reserved(pair, &[("A", 4)]).await;
    command(pair, &id, "cancel").send().await.unwrap().expect(200);
    order(pair, &[("A", 1_000_000)]).send().await.unwrap().expect(409);
    let shed = order(pair, &[("A", 1)]).deadline(std::time::Duration::ZERO).send().await.unwrap();
    assert_eq!(shed.expect(504).header("x-outcome"), "not-executed");
    let id = reserved(pair, &[("C", 2)]).await;
    becomes(pair, &id, "reserved").await;
    pair.settle(RESOLVED).await;
}

#[tokio::test]
async fn ordinary_use_gives_every_rule_something_to_check() {
    let pair = pair().await;
    ordinary_use(&pair).await;
    let report = pair.assert_invariants(true).await;
    report.require(Rule::ALL).unwrap_or_else(|missing| panic!("{missing}"));
}

#[tokio::test]
async fn the_checker_reports_a_change_that_no_service_made() {
    let pair = pair().await;
    ordinary_use(&pair).await;
    for (service, change, undo, rule) in [
        (
            Service::Inventory,
            "UPDATE items SET held = held + 1 WHERE sku = 'A'",
            "UPDATE items SET held = held - 1 WHERE sku = 'A'",
            Rule::StockConserved,
        ),
        (
            Service::Order,
            "UPDATE orders SET status = 'confirming' WHERE status = 'confirmed'",
            "UPDATE orders SET status = 'confirmed' WHERE status = 'confirming'",
            Rule::TablesEqualFold,
        ),
        (
            Service::Order,
            "UPDATE idempotency SET body = body || 'x'::bytea WHERE command = 'confirm'",
            "UPDATE idempotency SET body = substr(body, 1, length(body) - 1) WHERE command = 'confirm'",
            Rule::RepliesEqual,
        ),
        // The replies of the clients' log are not looked at: the journal gives these away.
        (
            Service::Inventory,
            "UPDATE idempotency SET body = replace(convert_from(body, 'UTF8'), '\"held\"', '\"released\"')::bytea
             WHERE command = 'reserve'",
            "UPDATE idempotency SET body = replace(convert_from(body, 'UTF8'), '\"released\"', '\"held\"')::bytea
             WHERE command = 'reserve'",
            Rule::TablesEqualFold,
        ),
        (
            Service::Order,
            "UPDATE idempotency SET status = status + 300 WHERE command = 'cancel'",
            "UPDATE idempotency SET status = status - 300 WHERE command = 'cancel'",
            Rule::TablesEqualFold,
        ),
        (
            Service::Order,
            "ALTER TABLE journal DISABLE TRIGGER ALL;
             UPDATE journal SET correlation_id = 'x' || correlation_id WHERE version = 1",
            "UPDATE journal SET correlation_id = substr(correlation_id, 2) WHERE version = 1",
            Rule::TablesEqualFold,
        ),
        (
            Service::Order,
            "ALTER TABLE journal DISABLE TRIGGER ALL;
             UPDATE journal SET body = replace(convert_from(body, 'UTF8'), '17850', '17851')::bytea",
            "UPDATE journal SET body = replace(convert_from(body, 'UTF8'), '17851', '17850')::bytea",
            Rule::ChainVerifies,
        ),
    ] {
        execute(&pair, service, change).await;
        let report = pair.check(true).await.unwrap();
        assert!(report.finding(rule).violated > 0, "{rule:?} let {change:?} pass\n{report}");
        execute(&pair, service, undo).await;
        pair.assert_invariants(true).await;
    }
}

async fn execute(pair: &TestPair, service: Service, sql: &str) {
    let mut admin = PgConnection::connect_with(&pair.database(service).admin()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
}
