//! Tests of rows that this release did not write, in real databases: the checker names each, and judges all other rows.

use checker::{Report, Rule, Unknown};
use local::Service;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::pair::TestPair;

use crate::support::{RESOLVED, command, pair, reserved, setup};

async fn execute(pair: &TestPair, service: Service, sql: &str) {
    let mut admin = PgConnection::connect_with(&pair.database(service).admin()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
}

/// A pair with two orders, one of them confirmed.
async fn a_pair_with_orders() -> TestPair {
    let pair = pair().await;
    let id = reserved(&pair, &[("A", 6)]).await;
    command(&pair, &id, "confirm").send().await.unwrap().expect(200);
    reserved(&pair, &[("B", 1)]).await;
    pair.settle(RESOLVED).await;
    pair.assert_invariants(true).await;
    pair
}

fn is_named(report: &Report, unknown: Unknown) {
    assert!(!report.is_broken(), "{report}");
    assert_eq!(report.not_judged.get(&unknown), Some(&1), "{report}");
    assert!(!report.is_clean() && report.require(&[]).is_err(), "{report}");
    for rule in [Rule::StockConserved, Rule::TablesEqualFold, Rule::ChainVerifies, Rule::DecisionReexecutes] {
        assert!(report.finding(rule).checked > 0, "{rule:?} did not check the other rows: {report}");
    }
}

/// SQL that inserts a row into a journal, as the database's owner may.
fn row(columns: &str, values: &str, body: &str) -> String {
    format!(
        "INSERT INTO journal (id, aggregate_kind, aggregate_id, version, from_state, to_state, correlation_id, body,
             hash{columns})
         OVERRIDING SYSTEM VALUE
         VALUES (gen_random_uuid(), 'order', gen_random_uuid(), 1, 'none', 'reserving', 'forged', '{body}'::bytea,
             sha256('{body}'::bytea){values})"
    )
}

#[tokio::test]
async fn an_entry_that_cannot_be_decoded_is_named_and_the_others_are_judged() {
    for body in ["not JSON \\\\377", "{\"format\": 7}", "null"] {
        let pair = a_pair_with_orders().await;
        execute(&pair, Service::Order, &row("", "", body)).await;
        is_named(&pair.check(true).await.unwrap(), Unknown::Entry);
    }
}

#[tokio::test]
async fn a_row_with_values_of_another_release_is_named_and_the_others_are_judged() {
    let pair = a_pair_with_orders().await;
    let change = "UPDATE orders SET lines = '[\"6 of A\"]' WHERE status = 'confirmed'";
    execute(&pair, Service::Order, change).await;
    is_named(&pair.check(true).await.unwrap(), Unknown::Row);
    let ends = "UPDATE orders SET expires_at = 'infinity' WHERE status = 'confirmed'";
    execute(&pair, Service::Order, ends).await;
    is_named(&pair.check(true).await.unwrap(), Unknown::Row);
    execute(&pair, Service::Inventory, "UPDATE items SET on_hand = on_hand + 1 WHERE sku = 'C'").await;
    assert!(pair.check(true).await.unwrap().finding(Rule::StockConserved).violated > 0);
}

#[tokio::test]
async fn a_row_that_the_feed_leaves_out_is_a_violation_that_names_the_row() {
    let pair = a_pair_with_orders().await;
    // The owner of a database may also drop the constraints.
    let unbound = "DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT conname FROM pg_constraint WHERE conrelid = 'journal'::regclass AND contype = 'c' LOOP
            EXECUTE format('ALTER TABLE journal DROP CONSTRAINT %I', name);
        END LOOP; END $$";
    execute(&pair, Service::Inventory, unbound).await;
    let forged = row(", seq, xid", ", -5, '3'::xid8", "forged").replace("'order'", "'reservation'");
    execute(&pair, Service::Inventory, &forged.replace("'reserving'", "'held'")).await;
    let report = pair.check(true).await.unwrap();
    let finding = report.finding(Rule::FeedShowsJournal);
    assert_eq!(finding.violated, 1, "{report}");
    assert_eq!(finding.violations[0].seq, Some(-5), "{report}");
}

#[tokio::test]
async fn repeated_checks_at_rest_pass_while_holds_expire() {
    let pair = setup().env(Service::Order, "HOLD_SECONDS", "3").start().await.unwrap();
    pair.stock("A", 1_000).await;
    let mut last = String::new();
    for _ in 0..25 {
        last = reserved(&pair, &[("A", 1)]).await;
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    }
    let mut checks = 0;
    loop {
        pair.assert_invariants(true).await;
        checks += 1;
        if crate::support::read(&pair, &last).await["status"] == "expired" {
            break;
        }
        assert!(checks < 500, "the last hold never expired");
    }
    assert!(checks > 3, "{checks} checks while holds expired");
    pair.assert_invariants(true).await;
}
