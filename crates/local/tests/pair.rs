//! The whole pair over a real PostgreSQL, with minimal services: this executable, run again.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside what clippy takes for a test")]

mod fake;

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use fake::{PairParts, REPORT, programs, wait_for};
use local::child::Restart;
use local::pair::{PairOptions, Ports, RunningPair, Server};
use local::postgres::DataLocation;
use local::{PairError, Postgres, PostgresOptions, Secret, Service, TemporaryDirectory};
use sqlx::{Connection, PgConnection};

fn options() -> PairOptions {
    PairOptions::for_tests(programs())
}

/// The number of rows that the fake services have written at their starts.
async fn starts(pair: &RunningPair, service: Service) -> i64 {
    let mut connection = PgConnection::connect(&pair.database(service).serving).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM starts").fetch_one(&mut connection).await.unwrap()
}

fn events(options: PairOptions) -> (PairOptions, impl Fn() -> Vec<String>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let on_event = Arc::new(move |event: local::ChildEvent| events.lock().unwrap().push(event.to_string()));
    (PairOptions { on_event, ..options }, move || seen.lock().unwrap().clone())
}

#[tokio::test]
async fn the_pair_starts_with_everything_it_needs_and_leaves_nothing_behind() {
    if fake::is_asked_for() {
        return fake::run().await;
    }
    let pair = RunningPair::start(options()).await.unwrap();
    let ready = pair.ready();
    let json = serde_json::to_value(&ready).unwrap();
    let members =
        |value: &serde_json::Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let expected =
        ["data_dir", "databases", "inventory", "inventory_ops", "order", "order_ops", "pids", "tokens"];
    assert_eq!(members(&json), expected);
    assert_eq!(members(&json["tokens"]), ["client", "client2", "operator"]);
    assert_eq!(members(&json["databases"]), ["inventory", "order"]);
    assert_eq!(members(&json["pids"]), ["inventory", "order", "postgres"]);
    assert!(json["pids"].as_object().unwrap().values().all(serde_json::Value::is_u64), "{json}");
    for service in Service::BOTH {
        assert_eq!(starts(&pair, service).await, 1);
    }
    assert!(!format!("{pair:?}{ready:?}").contains(pair.tokens().client.secret.expose()));

    let home = pair.home().to_owned();
    pair.stop().await.unwrap();
    assert!(!home.exists());
    for pid in [ready.pids.order, ready.pids.inventory, ready.pids.postgres] {
        assert!(!Path::new(&format!("/proc/{}", pid.unwrap())).exists());
    }
}

#[tokio::test]
async fn a_killed_service_is_restarted_on_the_same_ports_and_reported() {
    let (options, events) = events(PairOptions { restart: Restart::WithBackOff, ..options() });
    let pair = RunningPair::start(options).await.unwrap();
    let before = pair.pid(Service::Inventory).unwrap();
    pair.kill(Service::Inventory).await;
    pair.wait_until_ready(Service::Inventory).await.unwrap();
    let after = pair.pid(Service::Inventory).unwrap();
    assert_ne!(before, after);
    assert_eq!(starts(&pair, Service::Inventory).await, 2);
    let expected = [
        "inventory died (signal: 9 (SIGKILL)); restarting in 200ms".to_owned(),
        format!("inventory runs again (process {after})"),
    ];
    assert_eq!(events(), expected);
    pair.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_postgres_recovers_every_committed_row() {
    let (options, events) = events(PairOptions { restart: Restart::WithBackOff, ..options() });
    let pair = RunningPair::start(options).await.unwrap();
    assert!(pair.kill_postgres().await);
    wait_for(|| (events().len() == 2).then_some(())).await;
    pair.wait_for_postgres().await;
    assert!(events()[0].starts_with("postgres died"), "{:?}", events());
    assert!(events()[1].starts_with("postgres runs again"), "{:?}", events());
    assert_eq!(starts(&pair, Service::Order).await, 1);
    pair.stop().await.unwrap();
}

#[tokio::test]
async fn in_tests_a_killed_process_stays_dead_until_it_is_started() {
    let pair = RunningPair::start(options()).await.unwrap();
    pair.kill(Service::Order).await;
    assert!(pair.kill_postgres().await);
    wait_for(|| pair.ready().pids.postgres.is_none().then_some(())).await;
    assert_eq!(pair.pid(Service::Order), None);
    pair.start_postgres().await.unwrap();
    pair.start_service(Service::Order).await.unwrap();
    assert_eq!(starts(&pair, Service::Order).await, 2);
    pair.stop().await.unwrap();
}

#[tokio::test]
async fn a_kept_pair_finds_its_data_and_its_tokens_again() {
    let scratch = TemporaryDirectory::create_in(Path::new("/tmp")).unwrap();
    let location = DataLocation::Kept(scratch.path().join("pair"));
    let server = Server::Private(PostgresOptions { location, ..PostgresOptions::for_tests() });
    let options = PairOptions { server, ..options() };
    let first = RunningPair::start(options.clone()).await.unwrap();
    let token = first.tokens().client.secret.clone();
    first.stop().await.unwrap();
    let second = RunningPair::start(options).await.unwrap();
    assert_eq!(second.tokens().client.secret, token);
    assert_eq!(starts(&second, Service::Order).await, 2);
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_runs_already_is_used_and_left_running() {
    let postgres = Postgres::start(PostgresOptions::for_tests()).await.unwrap();
    let location = DataLocation::TemporaryIn(std::env::temp_dir());
    let server = Server::Given { admin_url: Secret::new(postgres.url("postgres")), location };
    let pair = RunningPair::start(PairOptions { server, ..options() }).await.unwrap();
    assert_eq!(pair.ready().pids.postgres, None);
    assert_eq!(starts(&pair, Service::Order).await, 1);
    assert!(!pair.kill_postgres().await);
    pair.stop().await.unwrap();
    PgConnection::connect(&postgres.url("mainstay_order")).await.unwrap();
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let ports = Ports::draw().unwrap();
    let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.inventory_ops)).unwrap();
    let error = RunningPair::start(PairOptions { ports: Some(ports), ..options() }).await.unwrap_err();
    assert!(matches!(error, PairError::PortInUse { port } if port == ports.inventory_ops), "{error:?}");
}

#[tokio::test]
async fn the_error_of_a_failed_migration_quotes_its_output() {
    let mut options = options();
    options.programs.order = ["sh", "-c", "echo no such column >&2; exit 3"].map(Into::into).into();
    let error = RunningPair::start(options).await.unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, PairError::Migration { service: Service::Order, .. }), "{message}");
    assert!(message.contains("no such column") && message.contains("exit status: 3"), "{message}");
}

#[tokio::test]
async fn the_error_of_a_service_that_dies_while_starting_quotes_its_log() {
    let mut options = options();
    options.programs.order =
        ["sh", "-c", "[ $0 = migrate ] || { echo colour is not set; exit 2; }"].map(Into::into).into();
    let error = RunningPair::start(options).await.unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, PairError::Died { service: Service::Order, .. }), "{message}");
    assert!(message.contains("colour is not set") && message.contains("exit status: 2"), "{message}");
}

/// The test runs its own executable again, as the process to kill.
#[tokio::test]
async fn kill_9_of_the_parent_leaves_no_process_and_no_directory() {
    if std::env::var_os(REPORT).is_some() {
        let pair = RunningPair::start(options()).await.unwrap();
        PairParts::of(&pair).report();
        return std::future::pending().await;
    }
    let scratch = TemporaryDirectory::create_in(Path::new("/tmp")).unwrap();
    let report = scratch.path().join("report");
    let mut victim = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill_9_of_the_parent_leaves_no_process_and_no_directory"])
        .env(REPORT, &report)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let parts = wait_for(|| PairParts::read(&report)).await;
    assert!(parts.home.exists() && parts.pids.iter().all(|pid| fake::is_alive(*pid)));
    victim.kill().await.unwrap();
    wait_for(|| parts.pids.iter().all(|pid| !fake::is_alive(*pid)).then_some(())).await;
    wait_for(|| (!parts.home.exists()).then_some(())).await;
}
