//! Logs, spans and metrics of a real process: its lines, its exports, and that no request waits for either.
//!
//! Telemetry is set up once in a process, so each test starts this binary again as the process it looks at.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use chassis::server::Limits;
use common::{PATIENCE, ask, start, until};
use http_body_util::Full;
use mainstay::client::{self, ClientConfig, HyperTransport, TransportConfig};
use mainstay::{Outcome, RequestContext, classify};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::Value;
use telemetry::TelemetryConfig;
use tokio::time::Instant;
use tower::ServiceExt;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const GRACE: Duration = Duration::from_secs(5);

/// Not a test of its own: the process that the tests start. It serves two services, the first of which calls the
/// second, and does what `CHASSIS_TEST_SCENE` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_process() {
    let Ok(scene) = std::env::var("CHASSIS_TEST_SCENE") else { return };
    let guard = telemetry::init(&TelemetryConfig {
        log_filter: std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()),
        otlp_endpoint: std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok(),
        instance_id: "order-7".to_owned(),
        environment: "test".to_owned(),
        good_reads: NonZeroU32::new(100).unwrap(),
        ..TelemetryConfig::new("order", "1.2.3", "abcdef")
    })
    .unwrap();
    match scene.as_str() {
        "one request" => one_request().await,
        "many reads" => many_reads().await,
        "many spans" => many_spans().await,
        other => panic!("no such scene: {other}"),
    }
    for line in telemetry::render_metrics().lines() {
        eprintln!("metric {line}");
    }
    let began = Instant::now();
    drop(guard);
    eprintln!("flushed in {} ms", began.elapsed().as_millis());
}

async fn one_request() {
    let inventory =
        start(Router::new().route("/items", get(|| async { "items" })), Limits::default(), GRACE).await;
    let transport = HyperTransport::new(&TransportConfig::default());
    let client = client::stack(ClientConfig::new("inventory"), transport).unwrap();
    let address = inventory.public;
    let call = get(move |Extension(context): Extension<RequestContext>| async move {
        tracing::warn!(user = "a\n{\"level\":\"INFO\"}\u{1b}[31m\u{85}", "what a client sent");
        let mut request =
            http::Request::get(format!("http://{address}/items")).body(Full::<Bytes>::default()).unwrap();
        request.extensions_mut().insert(context);
        classify::outcome(&client.oneshot(request).await).as_str()
    });
    let broken = get(|| async { assert!(tokio::task::try_id().is_none(), "on purpose") });
    let router = Router::new().route("/orders", call).route("/broken", broken);
    let order = start(router, Limits::default(), GRACE).await;
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("traceparent", traceparent.as_str()), ("X-Correlation-Id", "case-9")];
    let reply = ask(order.public, "GET /orders", &headers, "").await;
    assert_eq!(reply.body, Outcome::Success.as_str().as_bytes(), "{reply:?}");
    assert_eq!(ask(order.public, "GET /broken", &headers, "").await.status, 500);
    for service in [order, inventory] {
        service.lifecycle.stop();
        service.ending().await;
    }
}

/// 250 reads that succeed, 5 that fail, 5 writes.
async fn many_reads() {
    let failing = get(|| async { http::StatusCode::SERVICE_UNAVAILABLE }).post(|| async {});
    let router = Router::new().route("/orders", get(|| async { "orders" })).route("/failing", failing);
    let service = start(router, Limits::default(), GRACE).await;
    for _ in 0..250 {
        ask(service.public, "GET /orders", &[], "").await;
    }
    for _ in 0..5 {
        ask(service.public, "GET /failing", &[], "").await;
        ask(service.public, "POST /failing", &[], "").await;
    }
    service.lifecycle.stop();
    service.ending().await;
}

/// Many more spans than the queue holds, and requests while it is full.
async fn many_spans() {
    let began = Instant::now();
    for _ in 0..20_000 {
        drop(tracing::info_span!("work", trace_id = TRACE, span_id = CALLER));
    }
    eprintln!("made in {} ms", began.elapsed().as_millis());
    let service = start(Router::new().route("/", get(|| async { "ok" })), Limits::default(), GRACE).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let began = Instant::now();
        assert_eq!(ask(service.public, "GET /", &[], "").await.status, 200);
        slowest = slowest.max(began.elapsed());
    }
    eprintln!("slowest in {} ms", slowest.as_millis());
    // The exporter has found out what its collector is like.
    let failed = "telemetry_spans_total{result=\"failed\"}";
    until(|| async { telemetry::render_metrics().contains(failed) }).await;
}

fn run(scene: &str, endpoint: Option<String>, filter: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "a_service_process", "--nocapture", "--quiet"])
        .env("CHASSIS_TEST_SCENE", scene)
        .env("RUST_LOG", filter)
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null());
    if let Some(endpoint) = endpoint {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The log lines: all that is on standard output but the test harness's own words.
fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let harness =
        |line: &&str| line.is_empty() || ["running ", "test ", "."].iter().any(|word| line.starts_with(word));
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not one JSON object: {line:?}"));
    text.lines().filter(|line| !harness(line)).map(parse).collect()
}

/// The number after `name` on standard error.
fn said(output: &Output, name: &str) -> f64 {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("{name} is not in {text}"));
    line.trim().trim_end_matches(" ms").parse().unwrap()
}

/// A collector on loopback that answers every export, and passes on the spans with their resource's attributes.
fn collector() -> (String, Receiver<(String, Span)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, spans) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            std::thread::spawn(move || {
                while let Some(export) = receive(&stream) {
                    for resource in export.resource_spans {
                        let attributes = resource.resource.unwrap_or_default().attributes;
                        let name = format!("{attributes:?}");
                        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                            let _ = sender.send((name.clone(), span));
                        }
                    }
                }
            });
        }
    });
    (endpoint, spans)
}

/// One export of a connection; `None` at its end.
fn receive(stream: &TcpStream) -> Option<ExportTraceServiceRequest> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length, mut path) = (String::new(), 0, String::new());
    while reader.read_line(&mut line).ok()? > 2 {
        if path.is_empty() {
            line.split(' ').nth(1)?.clone_into(&mut path);
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    if path.is_empty() {
        return None;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
    assert_eq!(path, "/v1/traces");
    Some(ExportTraceServiceRequest::decode(body.as_slice()).unwrap())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

#[test]
fn one_trace_joins_the_caller_both_services_and_their_log_lines() {
    let (endpoint, spans) = collector();
    // Spans do not depend on which lines are logged.
    let output = run("one request", Some(endpoint), "warn,mainstay::canonical=info");
    let spans: Vec<_> = spans.try_iter().collect();
    let find = |name: &str| {
        let mut found = spans.iter().map(|(_, span)| span).filter(|span| span.name == name);
        found.next().unwrap_or_else(|| panic!("no span {name} in {spans:?}"))
    };
    let (order, attempt, inventory) = (find("GET /orders"), find("GET inventory"), find("GET /items"));
    for span in [order, attempt, inventory] {
        assert_eq!(hex(&span.trace_id), TRACE, "{}", span.name);
    }
    assert_eq!(hex(&order.parent_span_id), CALLER);
    assert_eq!(attempt.parent_span_id, order.span_id);
    assert_eq!(inventory.parent_span_id, attempt.span_id);
    // Server, client, server.
    assert_eq!([order.kind, attempt.kind, inventory.kind], [2, 3, 2]);
    assert_eq!(find("GET /broken").status.as_ref().unwrap().code, 2, "a 500 is an error");
    assert!(order.end_time_unix_nano >= order.start_time_unix_nano && order.start_time_unix_nano > 0);
    for named in ["order", "order-7", "test", "abcdef"] {
        assert!(
            spans.iter().all(|(resource, _)| resource.contains(&format!("{named:?}"))),
            "{named} in {spans:?}"
        );
    }

    let lines = lines(&output);
    let canonical: Vec<_> = lines.iter().filter(|line| line["target"] == "mainstay::canonical").collect();
    let routes: HashSet<_> = canonical.iter().map(|line| line["http.route"].as_str().unwrap()).collect();
    assert_eq!(routes, HashSet::from(["/orders", "/items", "/broken"]));
    for line in &canonical {
        assert_eq!((&line["trace_id"], &line["correlation_id"]), (&TRACE.into(), &"case-9".into()), "{line}");
    }
    let own =
        |route: &str| canonical.iter().find(|line| line["http.route"] == route).unwrap()["span_id"].clone();
    assert_eq!(own("/orders"), hex(&order.span_id), "log line and span agree on the id");
    assert_eq!(own("/items"), hex(&inventory.span_id));
}

#[test]
fn every_line_is_one_json_object_that_names_its_service_and_its_request() {
    let output = run("one request", None, "info");
    let lines = lines(&output);
    assert!(lines.len() >= 5, "{lines:?}");
    for line in &lines {
        for member in ["timestamp", "level", "service.name", "target", "message"] {
            assert!(line[member].is_string(), "{member} is missing from {line}");
        }
        assert_eq!(line["service.name"], "order");
        assert_eq!(
            (&line["service.version"], &line["vcs.ref.head.revision"]),
            (&"1.2.3".into(), &"abcdef".into())
        );
        assert_eq!(line["service.instance.id"], "order-7");
        assert_eq!(line["deployment.environment.name"], "test");
    }
    let sent = lines.iter().find(|line| line["message"] == "what a client sent").unwrap();
    assert_eq!(sent["user"], "a\n{\"level\":\"INFO\"}\u{1b}[31m\u{85}");
    assert_eq!((&sent["level"], &sent["correlation_id"]), (&"WARN".into(), &"case-9".into()));
    assert_eq!(sent["trace_id"], TRACE);
    assert!(!output.stdout.contains(&0x1b) && !String::from_utf8_lossy(&output.stdout).contains('\u{85}'));
    let panic = lines.iter().find(|line| line["target"] == "panic").unwrap();
    assert_eq!((&panic["panic"], &panic["correlation_id"]), (&"on purpose".into(), &"case-9".into()));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked at"), "no loose text");
}

#[test]
fn of_good_reads_one_line_in_a_hundred_is_written_and_of_all_else_every_line() {
    let lines = lines(&run("many reads", None, "info"));
    let canonical = |route: &str, method: &str| {
        let of = |line: &&Value| line["http.route"] == route && line["http.request.method"] == method;
        lines
            .iter()
            .filter(|line| line["target"] == "mainstay::canonical")
            .filter(of)
            .cloned()
            .collect::<Vec<_>>()
    };
    let reads = canonical("/orders", "GET");
    assert_eq!(reads.len(), 3, "the 1st, 101st and 201st: {reads:?}");
    assert!(
        reads.iter().all(|line| line["log_weight"] == 100),
        "each says how many it stands for: {reads:?}"
    );
    for kept in [canonical("/failing", "GET"), canonical("/failing", "POST")] {
        assert_eq!(kept.len(), 5);
        assert!(kept.iter().all(|line| line["log_weight"].is_null()), "{kept:?}");
    }
}

#[test]
fn a_filter_that_hides_lines_does_not_hide_whose_the_rest_are() {
    let lines = lines(&run("one request", None, "warn"));
    assert!(lines.iter().all(|line| line["level"] != "INFO"), "{lines:?}");
    let sent = lines.iter().find(|line| line["message"] == "what a client sent").unwrap();
    assert_eq!(sent["correlation_id"], "case-9");
}

#[test]
fn a_filter_can_name_the_span_whose_lines_it_lets_through() {
    let lines = lines(&run("one request", None, "warn,[request{http.route=/orders}]=info"));
    let routes = lines.iter().filter(|line| line["level"] == "INFO").map(|line| &line["http.route"]);
    assert_eq!(routes.collect::<Vec<_>>(), ["/orders"], "{lines:?}");
}

#[test]
fn metrics_tell_of_the_process_its_build_and_its_requests() {
    let output = run("one request", None, "info");
    let text = String::from_utf8_lossy(&output.stderr);
    for metric in [
        "metric build_info{service=\"order\",version=\"1.2.3\",revision=\"abcdef\",instance_id=\"order-7\",environment=\"test\"} 1",
        "metric # TYPE process_resident_memory_bytes gauge",
        "metric # TYPE mainstay_server_request_duration_seconds histogram",
        "metric mainstay_server_request_duration_seconds_bucket{route=\"/orders\",method=\"GET\",status=\"200\",le=\"0.3\"}",
        "metric mainstay_client_attempts_total{peer=\"inventory\",outcome=\"success\"} 1",
    ] {
        assert!(text.contains(metric), "{metric} is missing from {text}");
    }
    assert!(said(&output, "metric process_resident_memory_bytes ") > 1e6);
    assert!(said(&output, "metric process_open_fds ") > 3.0);
    assert!(said(&output, "metric process_uptime_seconds ") > 0.0);
    assert!(said(&output, "metric tokio_alive_tasks ") >= 0.0);
}

/// Nothing that the process did waited for the collector: the queue holds 4,096 of the 20,000 spans, and one wait for
/// it would be one of the exporter's 3 s.
fn assert_nobody_waited(output: &Output) {
    assert!(said(output, "made in ") < 20_000.0);
    assert!(said(output, "slowest in ") < 2_500.0);
    let bound = telemetry::Guard::FLUSH_BOUND.as_secs_f64() * 1_000.0;
    assert!(said(output, "flushed in ") < bound * 2.0 + 2_000.0);
}

#[test]
fn a_collector_that_refuses_is_noticed_by_nobody_but_the_metrics() {
    // Bound and dropped, so that no process listens there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run("many spans", Some(format!("http://{address}")), "info");
    assert_nobody_waited(&output);
    assert!(said(&output, "metric telemetry_spans_total{result=\"failed\"} ") >= 512.0);
}

#[test]
fn a_collector_that_hangs_is_noticed_by_nobody_and_holds_up_no_exit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (came, comings) = channel();
    std::thread::spawn(move || {
        // Takes connections, keeps them, and says nothing.
        let mut kept = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            kept.push(stream);
            if came.send(()).is_err() {
                return;
            }
        }
    });
    let output = run("many spans", Some(format!("http://{address}")), "info");
    comings.recv_timeout(PATIENCE).expect("the exporter came");
    assert_nobody_waited(&output);
    let dropped = said(&output, "metric telemetry_spans_total{result=\"dropped\"} ");
    assert!(dropped >= 10_000.0, "what did not fit was dropped and counted: {dropped}");
}
