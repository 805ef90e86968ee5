//! `mainstay up` and the commands that find its pair, as people and scripts use them.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside what clippy takes for a test")]

mod support;

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use local::pair::Ready;
use serde_json::Value;

use support::{Up, free_base, is_alive, mainstay, output, request, scratch, send, wait_for};

fn state_file(scratch: &Path, base: u16) -> std::path::PathBuf {
    scratch.join(format!("mainstay/pair-{base}.json"))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_json_line_has_the_contracts_members_and_sigterm_ends_everything() {
    let scratch = scratch();
    let mut up = Up::start(&scratch, &[]);
    let json: Value = serde_json::from_str(&up.line).unwrap();
    let members =
        ["data_dir", "databases", "inventory", "inventory_ops", "order", "order_ops", "pids", "tokens"];
    assert_eq!(keys(&json), members);
    assert_eq!(keys(&json["tokens"]), ["client", "client2", "operator"]);
    assert_eq!(keys(&json["databases"]), ["inventory", "order"]);
    assert_eq!(keys(&json["pids"]), ["inventory", "order", "postgres"]);
    assert_eq!(json["order"], format!("http://127.0.0.1:{}", up.base));
    assert_eq!(json["inventory_ops"], format!("http://127.0.0.1:{}", up.base + 1001));

    let state = state_file(scratch.path(), up.base);
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o600);
    let (status, lines, _) = output(mainstay(&scratch).args(["status", "--json"]));
    assert!(status.status.success(), "{lines}");
    let lines: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(lines[0]["pid"], json["pids"]["order"]);
    assert_eq!(lines[1]["status"], "ready");

    up.signal("TERM");
    assert!(up.process.wait().unwrap().success(), "{}", up.said());
    assert!(up.pids().into_iter().all(|pid| !is_alive(pid)));
    assert!(!up.ready.data_dir.exists());
    assert!(!state.exists());
    let (status, _, complaint) = output(mainstay(&scratch).arg("status"));
    assert!(!status.status.success() && complaint.contains("start one with `mainstay up`"), "{complaint}");
}

#[test]
fn a_killed_service_is_restarted_and_reported_and_the_state_file_has_its_new_process() {
    let scratch = scratch();
    let up = Up::start(&scratch, &[]);
    let killed = up.ready.pids.inventory.unwrap();
    send("KILL", killed);
    let state = || -> Ready {
        serde_json::from_slice(&std::fs::read(state_file(scratch.path(), up.base)).unwrap()).unwrap()
    };
    let restarted = wait_for("a new process", || state().pids.inventory.filter(|pid| *pid != killed));
    assert!(is_alive(restarted));
    let said = up.said();
    assert!(said.contains("inventory died (signal: 9 (SIGKILL)); restarting in 200ms"), "{said}");
    assert!(said.contains(&format!("inventory runs again (process {restarted})")), "{said}");
    wait_for("readiness", || output(mainstay(&scratch).arg("status")).0.status.success().then_some(()));
}

#[test]
fn kill_9_of_up_leaves_no_process_and_no_directory() {
    let scratch = scratch();
    let mut up = Up::start(&scratch, &[]);
    assert!(up.pids().into_iter().all(is_alive));
    up.signal("KILL");
    up.process.wait().unwrap();
    wait_for("the end of every process", || up.pids().into_iter().all(|pid| !is_alive(pid)).then_some(()));
    wait_for("the end of the directory", || (!up.ready.data_dir.exists()).then_some(()));
    let (status, _, complaint) = output(mainstay(&scratch).arg("status"));
    assert!(!status.status.success() && complaint.contains("no pair runs here"), "{complaint}");
}

#[test]
fn a_kept_directory_keeps_the_data_and_the_tokens() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    let arguments = ["--data-dir", data.to_str().unwrap()];
    let mut first = Up::start(&scratch, &arguments);
    let (status, item) =
        request(&first, "POST", "/v1/items", r#"{"sku": "85123A", "name": "kept", "on_hand": 7}"#);
    assert_eq!(status, 201, "{item}");
    first.signal("INT");
    assert!(first.process.wait().unwrap().success(), "{}", first.said());
    let second = Up::start(&scratch, &arguments);
    assert_eq!(second.ready.tokens.operator, first.ready.tokens.operator);
    assert_eq!(second.ready.data_dir, data);
    assert_eq!(request(&second, "GET", "/v1/items/85123A", ""), (200, item));
}

#[test]
fn ports_in_use_are_named_with_others_to_use_instead() {
    let scratch = scratch();
    let base = free_base();
    let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, base + 1000)).unwrap();
    let (status, stdout, complaint) =
        output(mainstay(&scratch).args(["up", "--port-base", &base.to_string()]));
    assert_eq!(status.status.code(), Some(1));
    assert_eq!(stdout, "");
    assert!(complaint.contains(&format!("in use: {}", base + 1000)), "{complaint}");
    assert!(complaint.contains("mainstay up --port-base "), "{complaint}");
}

#[test]
fn a_machine_without_postgres_is_told_how_to_get_it() {
    let scratch = scratch();
    let base = free_base().to_string();
    for (command, code) in [("up", 1), ("doctor", 1)] {
        let mut run = mainstay(&scratch);
        run.env("MAINSTAY_POSTGRES_BIN", "/nowhere").args([command, "--port-base", &base]);
        let (status, stdout, stderr) = output(&mut run);
        assert_eq!(status.status.code(), Some(code), "{stdout}{stderr}");
        assert!((stdout + &stderr).contains(local::system::System::detect().install_postgres()));
    }
}

#[test]
fn doctor_finds_ports_in_use_and_proposes_others() {
    let scratch = scratch();
    let base = free_base();
    let doctor = |base: u16| -> (Option<i32>, Value) {
        let (status, stdout, _) =
            output(mainstay(&scratch).args(["doctor", "--json", "--port-base", &base.to_string()]));
        let findings: Value = serde_json::from_str(&stdout).unwrap();
        let ports = findings.as_array().unwrap().iter().find(|finding| finding["name"] == "ports").unwrap();
        (status.status.code(), ports.clone())
    };
    let (code, ports) = doctor(base);
    assert_eq!((code, &ports["status"]), (Some(0), &Value::from("ok")), "{ports}");
    let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, base + 1)).unwrap();
    let (code, ports) = doctor(base);
    assert_eq!((code, &ports["status"]), (Some(1), &Value::from("missing")), "{ports}");
    assert!(ports["mend"].as_str().unwrap().starts_with("mainstay up --port-base "));
}
