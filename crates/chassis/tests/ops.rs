//! The operations listener, the API's description, and the container's probe.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use chassis::ops::{self, Change, ChangeLog, Condition};
use chassis::server::{Lifecycle, Limits, Signals};
use common::{Reply, Running, ask, start_with, until};
use http::Request;
use http_body_util::BodyExt;
use mainstay::Registry;
use mainstay::breaker::Breakers;
use mainstay::fault::Faults;
use mainstay::random::Random;
use serde_json::{Value, json};
use tower::ServiceExt;

const ANA: (&str, &str) = ("Authorization", "Bearer ana-token");
const JSON: (&str, &str) = ("Content-Type", "application/json");

struct Fixture {
    running: Running,
    changes: Arc<Mutex<Vec<Change>>>,
    breakers: Breakers,
}

async fn service(faults_enabled: bool, ledger_works: bool) -> Fixture {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let log = {
        let changes = changes.clone();
        ChangeLog::new(move |change: Change| {
            let changes = changes.clone();
            async move {
                if !ledger_works {
                    return Err("the database is down".to_owned());
                }
                changes.lock().unwrap().push(change);
                Ok(())
            }
        })
    };
    let breakers =
        Breakers::new("inventory", mainstay::breaker::BreakerConfig::default(), Random::seeded(1)).unwrap();
    breakers.endpoint(&mainstay::Endpoint::parse("127.0.0.1:8081").unwrap());
    let registry = Registry::default();
    registry.breakers(&breakers);
    let faults = Faults::new(Random::seeded(1));
    faults.declare("inventory-client");
    let mut admin = Router::new()
        .merge(ops::limit_routes(registry.clone()))
        .merge(ops::breaker_routes(registry, log.clone()))
        .route("/own", get(|| async { "the service's own" }));
    if faults_enabled {
        admin = admin.merge(ops::fault_routes(faults, log));
    }
    let grace = Duration::from_secs(5);
    let running =
        start_with([Router::new(), Router::new()], admin, Limits::default(), grace, Signals::none()).await;
    Fixture { running, changes, breakers }
}

impl Fixture {
    async fn ask(&self, line: &str, body: &str) -> Reply {
        ask(self.running.operations, line, &[ANA, JSON, ("X-Correlation-Id", "case-7")], body).await
    }
}

#[tokio::test]
async fn health_and_metrics_need_no_token_and_administration_an_operators() {
    let service = service(true, true).await;
    let address = service.running.operations;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(ask(address, &format!("GET {path}"), &[], "").await.status, 200, "{path}");
    }
    for path in ["/admin/v1/own", "/admin/v1/breakers", "/admin/v1/limits", "/admin/v1/faults"] {
        let line = format!("GET {path}");
        assert_eq!(ask(address, &line, &[], "").await.status, 401, "{path}");
        for other in ["Bearer shop-token", "Bearer order-token"] {
            let reply = ask(address, &line, &[("Authorization", other)], "").await;
            assert_eq!((reply.status, reply.problem().as_str()), (403, "forbidden"), "{path}");
        }
        assert_eq!(ask(address, &line, &[ANA], "").await.status, 200, "{path}");
    }
    assert_eq!(ask(address, "GET /nowhere", &[], "").await.problem(), "not-found");
    assert_eq!(ask(address, "GET /admin/v1/nowhere", &[], "").await.problem(), "not-found");
    let delete = "DELETE /admin/v1/own";
    assert_eq!(ask(address, delete, &[], "").await.problem(), "unauthenticated");
    assert_eq!(ask(address, delete, &[ANA], "").await.problem(), "method-not-allowed");
}

#[tokio::test]
async fn a_background_loop_that_panics_is_started_again_and_named_in_readiness() {
    let service = service(true, true).await;
    let tasks = service.running.lifecycle.tasks();
    let starts = Arc::new(Mutex::new(0));
    let seen = starts.clone();
    tasks.supervise("sweep", move |tasks| {
        let seen = seen.clone();
        async move {
            let is_first = {
                let mut starts = seen.lock().unwrap();
                *starts += 1;
                *starts == 1
            };
            assert!(!is_first, "as it was told to");
            tasks.stopping().await;
        }
    });
    until(async || *starts.lock().unwrap() == 2).await;
    let reply = ask(service.running.operations, "GET /readyz", &[], "").await;
    let report = reply.json();
    let sweep = &report["conditions"][1];
    assert_eq!(
        (reply.status, &sweep["name"], &sweep["ok"]),
        (200, &json!("sweep"), &json!(false)),
        "{report}"
    );
    assert_eq!(sweep["decides"], false, "{report}");
}

#[tokio::test]
async fn a_breaker_is_forced_with_a_reason_and_the_ledger_hears_of_it() {
    let service = service(false, true).await;
    let name = "/admin/v1/breakers/127.0.0.1:8081";
    let listed = service.ask("GET /admin/v1/breakers", "").await.json();
    assert_eq!(listed["items"][0]["name"], "127.0.0.1:8081");
    assert_eq!(service.ask(&format!("GET {name}"), "").await.json()["state"], "closed");

    let order = |action: &str| json!({"action": action, "reason": "inventory is being restored"}).to_string();
    let reply = service.ask(&format!("PUT {name}"), &order("force_open")).await;
    assert_eq!((reply.status, &reply.json()["state"]), (200, &json!("forced-open")), "{reply:?}");
    assert_eq!(reply.json()["recorded"], true);
    assert_eq!(service.breakers.list()[0].state.as_str(), "forced-open");
    assert_eq!(
        service.ask(&format!("PUT {name}"), &order("force_closed")).await.json()["state"],
        "forced-closed"
    );
    assert_eq!(service.ask(&format!("PUT {name}"), &order("reset")).await.json()["state"], "closed");

    let changes = service.changes.lock().unwrap().clone();
    let kinds: Vec<_> = changes.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, ["breaker.force_open", "breaker.force_closed", "breaker.reset"]);
    let first = &changes[0];
    assert_eq!((&*first.actor, first.subject.as_str()), ("ana", "127.0.0.1:8081"));
    assert_eq!(first.reason, "inventory is being restored");
    assert_eq!(first.detail, json!({"from": "closed", "to": "forced-open"}));
    assert_eq!(first.correlation_id.as_str(), "case-7");
}

#[tokio::test]
async fn an_order_without_a_reason_or_to_nobody_changes_nothing() {
    let service = service(false, true).await;
    let put = "PUT /admin/v1/breakers/127.0.0.1:8081";
    let reply = service.ask(put, r#"{"action": "force_open", "reason": "  "}"#).await;
    assert_eq!((reply.status, reply.fields()), (422, vec!["reason".to_owned()]));
    let reply = service.ask(put, r#"{"action": "explode", "reason": "why not"}"#).await;
    assert_eq!((reply.status, reply.fields()), (422, vec!["action".to_owned()]));
    let reply = service.ask("PUT /admin/v1/breakers/other", r#"{"action": "reset", "reason": "x"}"#).await;
    assert_eq!(reply.status, 404);
    assert!(reply.json()["detail"].as_str().unwrap().contains("127.0.0.1:8081"), "it says what there is");
    assert_eq!(service.breakers.list()[0].state.as_str(), "closed");
    assert!(service.changes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_breaker_obeys_even_when_the_ledger_cannot_be_written() {
    let service = service(false, false).await;
    let body = r#"{"action": "force_open", "reason": "the database is down"}"#;
    let reply = service.ask("PUT /admin/v1/breakers/127.0.0.1:8081", body).await;
    assert_eq!((reply.status, &reply.json()["recorded"]), (200, &json!(false)));
    assert_eq!(service.breakers.list()[0].state.as_str(), "forced-open");
}

#[tokio::test]
async fn faults_are_set_and_taken_back_with_a_reason() {
    let service = service(true, true).await;
    let name = "/admin/v1/faults/inventory-client";
    let body = r#"{"fault": "latency", "ms": 400, "probability": 0.5, "for_ms": 60000, "reason": "drill"}"#;
    let reply = service.ask(&format!("PUT {name}"), body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let shown = service.ask(&format!("GET {name}"), "").await.json();
    assert_eq!(
        (&shown["fault"]["fault"], &shown["fault"]["ms"]),
        (&json!("latency"), &json!(400)),
        "{shown}"
    );
    let bad = r#"{"fault": "latency", "ms": 400, "probability": 7, "reason": ""}"#;
    let reply = service.ask(&format!("PUT {name}"), bad).await;
    assert_eq!((reply.status, reply.fields()), (422, vec!["probability".to_owned(), "reason".to_owned()]));
    assert_eq!(service.ask("PUT /admin/v1/faults/other", body).await.status, 404);
    let reply = service.ask(&format!("DELETE {name}"), r#"{"reason": "drill over"}"#).await;
    assert_eq!((reply.status, &reply.json()["fault"]), (200, &Value::Null));
    let kinds: Vec<_> = service.changes.lock().unwrap().iter().map(|change| change.kind).collect();
    assert_eq!(kinds, ["fault.set", "fault.cleared"]);
}

#[tokio::test]
async fn faults_are_404_unless_enabled() {
    let service = service(false, true).await;
    for line in ["GET /admin/v1/faults", "GET /admin/v1/faults/inventory-client"] {
        assert_eq!(service.ask(line, "").await.status, 404, "{line}");
    }
}

async fn readyz(readiness: impl Fn() -> Vec<Condition> + Send + Sync + 'static) -> (u16, Value) {
    readyz_async(move || std::future::ready(readiness())).await
}

async fn readyz_async<F>(readiness: impl Fn() -> F + Send + Sync + 'static) -> (u16, Value)
where
    F: Future<Output = Vec<Condition>> + Send + 'static,
{
    let lifecycle = Lifecycle::new(Duration::from_secs(1));
    let router = ops::router(&lifecycle, readiness, Router::new());
    let request = Request::get("/readyz").body(axum::body::Body::empty()).unwrap();
    let reply = router.oneshot(request).await.unwrap();
    let status = reply.status().as_u16();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_decides_decides_and_a_dead_peer_is_only_reported() {
    let peer = || Condition::reported("inventory", false).detail("its breaker is open");
    let (status, body) = readyz(move || vec![Condition::deciding("database", true), peer()]).await;
    assert_eq!((status, &body["status"]), (200, &json!("ready")));
    assert_eq!(
        (&body["conditions"][1]["ok"], &body["conditions"][1]["name"]),
        (&json!(false), &json!("inventory"))
    );
    let (status, body) = readyz(|| vec![Condition::deciding("schema", false)]).await;
    assert_eq!((status, &body["status"]), (503, &json!("not-ready")));
    let (status, body) = readyz_async(std::future::pending).await;
    assert_eq!((status, &body["status"]), (503, &json!("not-ready")), "a reading that hangs is not ready");
}

#[tokio::test]
async fn the_description_is_served_as_json_and_as_a_page() {
    #[derive(utoipa::OpenApi)]
    #[openapi(info(title = "Things", version = "1"))]
    struct Description;
    let document = <Description as utoipa::OpenApi>::openapi();
    let grace = Duration::from_secs(5);
    let service = common::start(chassis::openapi::routes(&document), Limits::default(), grace).await;
    let json = ask(service.public, "GET /openapi.json", &[], "").await;
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert!(json.json()["openapi"].as_str().unwrap().starts_with("3.1"), "{json:?}");
    assert_eq!(json.body, chassis::openapi::json(&document).into_bytes(), "the subcommand prints the same");
    assert_eq!(ask(service.public, "GET /docs", &[], "").await.header("location"), Some("/docs/"));
    let page = ask(service.public, "GET /docs/", &[], "").await;
    assert_eq!(page.header("content-type"), Some("text/html"));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    let text = String::from_utf8(page.body).unwrap();
    assert!(
        !text.contains("http://") && !text.contains("https://"),
        "the page loads nothing from elsewhere: {text}"
    );
    let script = ask(service.public, "GET /docs/swagger-initializer.js", &[], "").await;
    assert!(String::from_utf8(script.body).unwrap().contains("/openapi.json"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_containers_probe_follows_readiness() {
    let service = service(false, true).await;
    let probe = async |address| {
        let code = tokio::task::spawn_blocking(move || chassis::healthcheck::run(address)).await.unwrap();
        format!("{code:?}")
    };
    let (success, failure) =
        (format!("{:?}", std::process::ExitCode::SUCCESS), format!("{:?}", std::process::ExitCode::FAILURE));
    let address = service.running.operations;
    assert_eq!(probe(address).await, success);
    service.running.lifecycle.stop();
    assert_eq!(probe(address).await, failure, "503, or no listener");
    service.running.ending().await;
    assert_eq!(probe(address).await, failure, "no listener");
}
