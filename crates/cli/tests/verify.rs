//! `mainstay verify`: each verdict has its own exit code.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside what clippy takes for a test")]

#[allow(dead_code, reason = "the other test programs use the rest")]
mod support;

use local::TemporaryDirectory;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use support::{Up, free_base, mainstay, output, request, scratch};

/// Exit code, standard output, standard error.
fn verify(scratch: &TemporaryDirectory, arguments: &[&str]) -> (Option<i32>, String, String) {
    let (status, stdout, stderr) = output(mainstay(scratch).arg("verify").args(arguments));
    (status.status.code(), stdout, stderr)
}

fn execute(url: &str, sql: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[test]
fn each_verdict_has_an_exit_code_of_its_own() {
    let scratch = scratch();
    let base = free_base().to_string();
    let (code, _, stderr) = verify(&scratch, &["--port-base", &base]);
    assert_eq!(code, Some(2), "no pair: {stderr}");

    let up = Up::start(&scratch, &[]);
    let (status, item) = request(&up, "POST", "/v1/items", r#"{"sku": "A", "name": "", "on_hand": 7}"#);
    assert_eq!(status, 201, "{item}");
    let (code, stdout, stderr) = verify(&scratch, &["--at-rest"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains(" of 12 invariants were checked and hold"), "{stdout}");

    // The service's own role may insert a wrong entry.
    execute(
        &up.ready.databases.order,
        "INSERT INTO journal (id, aggregate_kind, aggregate_id, version, from_state, to_state, correlation_id, body, hash)
         VALUES (gen_random_uuid(), 'order', gen_random_uuid(), 1, 'none', 'reserving', 'later', '{\"format\": 2}',
             sha256('{\"format\": 2}'))",
    );
    let (code, stdout, stderr) = verify(&scratch, &["--at-rest"]);
    assert_eq!(code, Some(3), "{stdout}{stderr}");
    assert!(
        stdout.contains("Not judged, because this release cannot read it: 1 unreadable entry."),
        "{stdout}"
    );
    let (code, stdout, _) = verify(&scratch, &["--json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["not_judged"]["entry"]), (Some(3), &Value::from(1)), "{report}");
    assert_eq!(report["not_judged_shown"][0]["service"], "order", "{report}");

    execute(&up.ready.databases.inventory, "UPDATE items SET on_hand = on_hand + 1");
    let (code, stdout, stderr) = verify(&scratch, &[]);
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stdout.contains("The contract is broken."), "{stdout}");
}

#[test]
fn the_help_lists_the_exit_codes() {
    let (code, stdout, _) = verify(&scratch(), &["--help"]);
    assert_eq!(code, Some(0));
    let text = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("Exit code 0 when every invariant that can be checked holds, 1 when"), "{stdout}");
}
