//! `mainstay status` and `explain` while a service hangs, an order waits, or an entry cannot be read.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside what clippy takes for a test")]

#[path = "support/http.rs"]
mod http;
#[allow(dead_code, reason = "shared with the tests of `up`, which use the rest")]
mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use http::serve;
use support::{Up, free_base, mainstay, output, request, scratch, send, wait_for};

/// The time limit of an interactive command. Its own bound is 2 s, also while a service hangs; the rest is for a
/// loaded machine. Without the bound a command took 25 s.
const AT_ONCE: Duration = Duration::from_secs(4);

fn at_once(command: &mut Command) -> (Option<i32>, String, String) {
    let began = Instant::now();
    let (output, said, complaint) = output(command);
    assert!(began.elapsed() < AT_ONCE, "{:?}: {said}{complaint}", began.elapsed());
    (output.status.code(), said, complaint)
}

/// Places a client's order, with a key made from `name`; returns status and body.
fn order(up: &Up, name: &str, correlation_id: &str) -> (u16, Value) {
    let headers =
        format!("Idempotency-Key: key-of-an-order-{name}\r\nX-Correlation-Id: {correlation_id}\r\n");
    let body = r#"{"customer_id": "7001", "lines": [{"sku": "10001", "quantity": 2}]}"#;
    let url = format!("{}/v1/orders", up.ready.order);
    let (status, reply) = http::send(&url, "POST", &up.ready.tokens.client, &headers, body);
    (status, serde_json::from_str(&reply).unwrap())
}

fn cancel(up: &Up, id: &str) -> u16 {
    let headers = format!("Idempotency-Key: key-of-a-cancel-{id}\r\n");
    http::send(
        &format!("{}/v1/orders/{id}/cancel", up.ready.order),
        "POST",
        &up.ready.tokens.client,
        &headers,
        "",
    )
    .0
}

fn work_breaker(up: &Up, action: &str) {
    let breaker = up.ready.inventory.strip_prefix("http://").unwrap();
    let url = format!("{}/admin/v1/breakers/{breaker}", up.ready.order_ops);
    let body = json!({"action": action, "reason": "a test of the commands' output"}).to_string();
    assert_eq!(http::send(&url, "PUT", &up.ready.tokens.operator, "", &body).0, 200);
}

fn stock(up: &Up) {
    let (status, body) = request(up, "POST", "/v1/items", r#"{"sku": "10001", "name": "mug", "on_hand": 9}"#);
    assert_eq!(status, 201, "{body}");
}

/// The words of a text, without line breaks and indents.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn while_a_service_is_stopped_every_command_names_the_missing_half_at_once_and_concludes_nothing() {
    let scratch = scratch();
    let up = Up::start(&scratch, &[]);
    stock(&up);
    let (status, placed) = order(&up, "a", "c-a");
    assert_eq!(status, 201, "{placed}");
    let id = placed["id"].as_str().unwrap();
    let pids = [("inventory", up.ready.pids.inventory.unwrap()), ("order", up.ready.pids.order.unwrap())];
    for (service, pid) in pids {
        send("STOP", pid);
        let half = format!("the {service} service's half is missing");
        let stopped = format!("process {pid} is stopped (SIGSTOP)");

        let (code, said, complaint) = at_once(mainstay(&scratch).args(["explain", id]));
        assert!(code == Some(3) && said.contains(&half) && said.contains(&stopped), "{said}{complaint}");
        assert_eq!(said.matches("is missing").count(), 1, "{said}");
        // The other half is shown, and nothing is concluded about the missing half.
        let (there, concluded) = match service {
            "inventory" => (format!("Order {id} is reserved"), "has no entry of it"),
            _ => ("none -> held".to_owned(), "Order "),
        };
        assert!(said.contains(&there) && !said.contains(concluded), "{said}");

        let (code, said, complaint) = at_once(mainstay(&scratch).args(["explain", "an-id-in-no-journal"]));
        assert_eq!((code, said.as_str()), (Some(3), ""), "{complaint}");
        assert!(complaint.starts_with("Not known yet: ") && complaint.contains(&half), "{complaint}");
        assert!(!complaint.contains("Neither journal"), "{complaint}");

        let (code, said, _) = at_once(mainstay(&scratch).arg("status"));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&stopped) && said.contains(&format!("next: kill -CONT {pid}")), "{said}");

        let (code, said, complaint) = at_once(mainstay(&scratch).args(["replay", "--limit", "3"]));
        assert_eq!((code, said.as_str()), (Some(1), ""));
        assert!(complaint.contains(&format!("the {service} service does not answer")), "{complaint}");
        assert!(complaint.contains(&stopped), "{complaint}");
        send("CONT", pid);
    }
    for (_, pid) in pids {
        send("STOP", pid);
    }
    let (code, _, complaint) = at_once(mainstay(&scratch).args(["explain", id]));
    assert!(code == Some(1) && complaint.contains("neither service answers"), "{complaint}");
    let (code, said, _) = at_once(mainstay(&scratch).arg("status"));
    assert!(code == Some(1) && said.matches("kill -CONT").count() == 2, "{said}");
}

#[test]
fn explain_names_an_orders_obstacle_and_reports_no_release_of_stock_that_was_never_held() {
    let scratch = scratch();
    let up = Up::start(&scratch, &[]);
    stock(&up);
    // An endpoint's breaker exists from the first call on.
    assert_eq!(order(&up, "a", "c-a").0, 201);
    work_breaker(&up, "force_open");
    let (status, waiting) = order(&up, "b", "c-b");
    assert_eq!(status, 202, "{waiting}");
    let id = waiting["id"].as_str().unwrap();

    let (output_, said, _) = output(mainstay(&scratch).arg("status"));
    assert_eq!(output_.status.code(), Some(1), "{said}");
    assert!(
        said.contains("is forced-open") && said.contains("\"reset\"") && said.contains("breaker-open.md"),
        "{said}"
    );

    let (output_, said, complaint) = output(mainstay(&scratch).args(["explain", id]));
    assert!(output_.status.success(), "{said}{complaint}");
    let told = flat(&said);
    assert!(
        told.contains("An operator holds the breaker of") && told.contains("open: nothing is sent"),
        "{said}"
    );
    assert!(
        told.contains("The next try is due") && told.contains("waits for the breaker")
            || told.contains("then has to"),
        "{said}"
    );
    assert!(told.contains("The client's `place` has no final reply: it got 202"), "{said}");

    let counted = "0 requests sent, 1 refused here before sending. The latest one: circuit breaker of";
    assert!(told.contains(counted), "{said}");

    assert_eq!(cancel(&up, id), 202);
    work_breaker(&up, "reset");
    let ended = || {
        let (_, said, _) = output(mainstay(&scratch).args(["explain", id]));
        said.contains(&format!("Order {id} is cancelled")).then(|| flat(&said))
    };
    let told = wait_for("the end of the cancel", ended);
    assert!(told.contains("inventory held nothing: it had never seen the reservation"), "{told}");
    assert!(!told.contains("given the stock back"), "{told}");
    // The two tries that were refused here, and the one that was sent.
    assert!(told.contains("requests to inventory: 1 sent, 2 refused here before sending"), "{told}");
    assert!(!told.contains("was asked"), "{told}");
}

#[test]
fn a_replayed_replys_correlation_id_and_a_sku_lead_to_their_orders() {
    let scratch = scratch();
    let up = Up::start(&scratch, &[]);
    stock(&up);
    let (status, placed) = order(&up, "a", "c-first");
    let id = placed["id"].as_str().unwrap();
    assert_eq!((status, order(&up, "a", "c-again")), (201, (201, placed.clone())));

    // The line is in the log a moment after the reply.
    let told = wait_for("the request's line", || {
        let (output, said, _) = output(mainstay(&scratch).args(["explain", "c-again"]));
        output.status.success().then_some(said)
    });
    assert!(told.contains("c-again is the correlation id of a request whose reply was replayed"), "{told}");
    assert!(told.contains(&format!("Order {id} is reserved")), "{told}");

    let (output_, said, _) = output(mainstay(&scratch).args(["explain", "10001"]));
    assert!(output_.status.success(), "{said}");
    assert!(flat(&said).contains("1 held 2 pieces") && said.contains(&format!("order {id}")), "{said}");

    let (output_, said, complaint) = output(mainstay(&scratch).args(["explain", "an-id-in-no-journal"]));
    assert_eq!((output_.status.code(), said.as_str()), (Some(1), ""));
    for part in ["as a correlation id", "or a SKU", "The ends of both logs in", "Idempotent-Replayed"] {
        assert!(complaint.contains(part), "{part}: {complaint}");
    }
}

/// Starts a fake pair that gives fixed answers on its operations listeners; returns its first port.
fn fake_pair(order: &[(&str, u16, String)], inventory: &[(&str, u16, String)]) -> String {
    let base = free_base();
    serve(base + 1_000, order);
    serve(base + 1_001, inventory);
    base.to_string()
}

fn ready(conditions: &Value) -> (&'static str, u16, String) {
    ("/readyz", 200, json!({"status": "ready", "conditions": conditions, "moon": "full"}).to_string())
}

#[test]
fn status_fails_on_every_bad_condition_although_the_service_is_ready() {
    let scratch = scratch();
    let id = "01a1fe12-6a76-71e9-b426-5b8604d9389c";
    let conditions = json!([
        {"name": "database", "ok": true},
        {"name": "orders", "ok": false, "decides": false, "detail": format!("1 has waited longer than 10 s: {id}")},
        {"name": "tide", "ok": false, "detail": "low \u{1b}[31m"},
    ]);
    let base = fake_pair(&[ready(&conditions)], &[ready(&json!([{"name": "database", "ok": true}]))]);
    let (output_, said, _) = output(mainstay(&scratch).args(["status", "--port-base", &base]));
    assert_eq!(output_.status.code(), Some(1), "{said}");
    assert!(said.contains("orders: 1 has waited longer than 10 s"), "{said}");
    assert!(said.contains(&format!("next: mainstay explain {id} --port-base {base}")), "{said}");
    assert!(said.contains("tide: low \u{fffd}[31m") && said.contains("runbooks/README.md"), "{said}");
    assert!(!said.contains("database"), "{said}");
    let (output_, said, _) = output(mainstay(&scratch).args(["status", "--json", "--port-base", &base]));
    let lines: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(output_.status.code(), Some(1));
    assert_eq!(lines[0]["conditions"][1]["next"]["runbook"], "orders-unresolved.md");

    let well = fake_pair(&[ready(&json!([]))], &[ready(&json!([]))]);
    assert!(output(mainstay(&scratch).args(["status", "--port-base", &well])).0.status.success());
}

#[test]
fn an_unreadable_entry_is_shown_unchanged_and_the_others_are_shown() {
    let scratch = scratch();
    let id = "01a1fe12-6a76-71e9-b426-5b8604d9389c";
    let entry = |n: u8, rule: &str, to: &str| {
        json!({"id": format!("00000000-0000-0000-0000-0000000000{n:02}"), "service": "order", "aggregate_kind": "order",
            "aggregate_id": id, "version": n, "from": "none", "to": to, "command": "place",
            "principal": "client", "key_hash": null, "correlation_id": "c-1", "causation_id": null, "trace_id": null,
            "hlc": "0000000000000001", "at": "2026-11-21T12:00:00Z", "attempt": 1, "rule": rule,
            "inputs": {"ribbon": "red"}, "alternatives": [], "evidence": {}, "revision": "r", "config_hash": "c",
            "payload_hash": null, "prev_hash": null})
    };
    let item = |seq: u8, entry: Value| json!({"seq": seq, "hash": "h", "entry": entry, "moon": "full"});
    let page = json!({"service": "order", "next": null, "more": false, "items": [
        item(1, json!({"shape": "of a newer release"})),
        item(2, entry(2, "order.gift@7", "wrapped")),
    ]});
    let none = json!({"service": "inventory", "next": null, "more": false, "items": []});
    let journal = "/admin/v1/journal";
    let base = fake_pair(&[(journal, 200, page.to_string())], &[(journal, 200, none.to_string())]);
    let explain = |more: &[&str]| {
        let mut command = mainstay(&scratch);
        command
            .args(["explain", id, "--port-base", &base])
            .args(more)
            .env("MAINSTAY_OPERATOR_TOKEN", "token");
        let (output, said, complaint) = output(&mut command);
        assert_eq!(output.status.code(), Some(3), "{said}{complaint}");
        said
    };
    let told = flat(&explain(&[]));
    assert!(told.contains(&format!("Order {id} is wrapped")), "{told}");
    assert!(told.contains("why not readable by this release: {\"ribbon\":\"red\"} [order.gift@7]"), "{told}");
    assert!(told.contains("Entry 1 of the order journal is not readable by this release"), "{told}");
    assert!(told.contains("of a newer release"), "{told}");
    let story: Value = serde_json::from_str(&explain(&["--json"])).unwrap();
    assert_eq!(story["unreadable"][0]["entry"]["shape"], "of a newer release");
    assert_eq!(story["timeline"]["rows"].as_array().unwrap().len(), 1);
}

#[test]
fn a_command_whose_output_has_no_reader_ends_quietly() {
    let scratch = scratch();
    let base = fake_pair(&[ready(&json!([]))], &[ready(&json!([]))]);
    let mut command = mainstay(&scratch);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.args(["status", "--port-base", &base]).stdout(writer).stderr(Stdio::piped());
    let ended = command.spawn().unwrap().wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(141), &b""[..]));
}
