//! Tests of the metrics that rules stand on: names and help texts, series at zero from the start, each transition counted
//! once.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use local::Service;
use sqlx::{Connection as _, PgConnection, Row as _};
use testkit::eventually;
use testkit::pair::TestPair;
use testkit::proxy::{Ending, Fault, When};

use crate::support::{RESOLVED, becomes, command, order, pair, reserved, setup, sound};

async fn scrape(pair: &TestPair, service: Service) -> String {
    let reply = pair.ops(service, 0).get("/metrics").send().await.unwrap().expect(200);
    String::from_utf8(reply.body.to_vec()).unwrap()
}

/// The series of `text` whose names begin with `name`, with their values.
fn series(text: &str, name: &str) -> BTreeMap<String, f64> {
    let of_name =
        text.lines().filter(|line| line.starts_with(name) && !line.is_empty() && !line.starts_with('#'));
    of_name
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Series that must exist before their first event, at zero.
const AT_ZERO: [(Service, &[&str]); 2] = [
    (
        Service::Order,
        &[
            r#"mainstay_server_requests_total{route="/v1/orders",method="POST",status="201",outcome="success"}"#,
            r#"mainstay_server_requests_total{route="/v1/orders",method="POST",status="503",outcome="throttled"}"#,
            r#"mainstay_server_requests_total{route="/v1/orders/{id}/confirm",method="POST",status="504",outcome="unknown"}"#,
            r#"mainstay_server_requests_total{route="/v1/orders",method="POST",status="none",outcome="cancelled"}"#,
            r#"mainstay_server_request_duration_seconds_bucket{route="/v1/orders",method="POST",status="201",le="0.3"}"#,
            r#"mainstay_server_request_duration_seconds_count{route="/v1/orders",method="POST",status="500"}"#,
            r#"mainstay_server_shed_total{reason="queue-full"}"#,
            r#"mainstay_server_shed_total{reason="rate-limit"}"#,
            r#"mainstay_server_header_ignored_total{header="x-deadline-ms"}"#,
            r#"mainstay_server_header_ignored_total{header="traceparent"}"#,
            "mainstay_server_correlation_replaced_total",
            "mainstay_server_panics_total",
            r#"mainstay_client_requests_total{peer="inventory",outcome="unknown"}"#,
            r#"mainstay_journal_entries_total{kind="order",to="reserve_unknown"}"#,
            r#"mainstay_order_decision_seconds_bucket{step="reserve",le="10"}"#,
            r#"mainstay_order_decision_seconds_count{step="confirm"}"#,
            r#"mainstay_sweep_orders_total{result="failed"}"#,
            r#"mainstay_reservation_mismatches_total{reservation="released"}"#,
            r#"mainstay_db_transactions_total{result="unknown"}"#,
            r#"mainstay_faults_injected_total{point="order-server",fault="garbage"}"#,
            "telemetry_log_lines_dropped_total",
            r#"telemetry_spans_total{result="dropped"}"#,
        ],
    ),
    (
        Service::Inventory,
        &[
            r#"mainstay_server_requests_total{route="/v1/reservations",method="POST",status="503",outcome="throttled"}"#,
            r#"mainstay_server_request_duration_seconds_bucket{route="/v1/reservations",method="POST",status="201",le="0.1"}"#,
            r#"mainstay_journal_entries_total{kind="reservation",to="voided"}"#,
            r#"mainstay_db_transactions_total{result="not_executed"}"#,
            r#"mainstay_server_connections_refused_total{listener="public"}"#,
            "telemetry_log_lines_dropped_total",
        ],
    ),
];

/// A series that is born above zero has no increase: without this, no rule sees the first failures of a process.
#[tokio::test]
async fn every_series_that_a_rule_stands_on_exists_at_zero_from_the_start() {
    let pair = setup().start().await.unwrap();
    for (service, wanted) in AT_ZERO {
        let all = series(&scrape(&pair, service).await, "");
        for name in wanted {
            assert_eq!(all.get(*name), Some(&0.0), "{service}: {name}");
        }
        for state in ["open", "idle", "waiting"] {
            let name = format!("mainstay_db_connections{{state=\"{state}\"}}");
            eventually(&name, RESOLVED, || async { series(&scrape(&pair, service).await, &name).len() == 1 })
                .await;
        }
    }
}

#[tokio::test]
async fn three_hundred_bad_headers_before_the_first_scrape_are_counted_from_zero() {
    let pair = setup().start().await.unwrap();
    let name = r#"mainstay_server_header_ignored_total{header="x-deadline-ms"}"#;
    let at_start = scrape(&pair, Service::Order).await;
    for _ in 0..300 {
        let header = http::HeaderName::from_static("x-deadline-ms");
        pair.client().get("/v1/orders").header(&header, "soon").send().await.unwrap().expect(200);
    }
    let increase = series(&scrape(&pair, Service::Order).await, name)[name] - series(&at_start, name)[name];
    assert!((increase - 300.0).abs() < 0.5, "{increase}");
}

#[tokio::test]
async fn promtool_finds_no_fault_in_the_metrics_of_both_services() {
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("NOT RUN: promtool is not installed (apt-get install prometheus)");
        return;
    }
    let pair = pair().await;
    reserved(&pair, &[("A", 1)]).await;
    for service in Service::BOTH {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        promtool.stdin.take().unwrap().write_all(scrape(&pair, service).await.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        assert!(output.status.success(), "{service}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Requests, the sweep, expiry and a cancel all move orders; a driver that is overtaken moves none.
#[tokio::test]
async fn each_transition_is_counted_once_where_it_is_written() {
    let pair = setup().env(Service::Order, "HOLD_SECONDS", "2").start().await.unwrap();
    pair.stock("A", 100).await;
    let confirmed = reserved(&pair, &[("A", 1)]).await;
    command(&pair, &confirmed, "confirm").send().await.unwrap().expect(200);
    pair.hop().script(When::every("POST /v1/reservations"), Fault::LoseReply(Ending::Reset));
    let soon = Duration::from_millis(900);
    let lost = order(&pair, &[("A", 1)]).deadline(soon).send().await.unwrap().expect(202);
    let overtaken = order(&pair, &[("A", 1)]).deadline(soon).send().await.unwrap().expect(202);
    let overtaken = overtaken.json()["id"].as_str().unwrap().to_owned();
    command(&pair, &overtaken, "cancel").deadline(soon).send().await.unwrap();
    pair.hop().heal();
    becomes(&pair, &overtaken, "cancelled").await;
    becomes(&pair, lost.json()["id"].as_str().unwrap(), "expired").await;
    order(&pair, &[("A", 1_000)]).send().await.unwrap().expect(409);
    sound(&pair).await;
    for service in Service::BOTH {
        let mut admin = PgConnection::connect_with(&pair.database(service).admin()).await.unwrap();
        let by_state = "SELECT aggregate_kind, to_state, count(*) FROM journal GROUP BY 1, 2";
        let rows = sqlx::query(by_state).fetch_all(&mut admin).await.unwrap();
        let name = "mainstay_journal_entries_total";
        let written: BTreeMap<String, f64> = rows
            .iter()
            .map(|row| {
                let (kind, to): (String, String) = (row.get(0), row.get(1));
                let count = u32::try_from(row.get::<i64, _>(2)).unwrap();
                (format!("{name}{{kind=\"{kind}\",to=\"{to}\"}}"), f64::from(count))
            })
            .collect();
        let mut counted = series(&scrape(&pair, service).await, name);
        counted.retain(|_, count| *count > 0.0);
        assert_eq!(counted, written, "{service}");
    }
    let text = scrape(&pair, Service::Order).await;
    let decided = series(&text, "mainstay_order_decision_seconds_count");
    assert!(decided.values().sum::<f64>() >= 5.0, "{decided:?}");
    assert!(series(&text, "mainstay_orders_overdue").contains_key("mainstay_orders_overdue"));
}
