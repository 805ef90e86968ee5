//! Two stages: finish what is in hand, then cut what is left.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::convert::Infallible;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use chassis::server::{Ending, Lifecycle, Limits, Served, Signals, bind};
use common::{Connection, PATIENCE, ask, in_time, request, start, start_with, until};
use http::Request;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tower::Service;

const GRACE: Duration = Duration::from_secs(15);

/// `/slow` answers once it is let go, `/hello` at once.
fn routes(entered: &Arc<Notify>, release: &Arc<Notify>) -> Router {
    let (entered, release) = (entered.clone(), release.clone());
    let slow = get(move || async move {
        entered.notify_one();
        release.notified().await;
        "done"
    });
    Router::new().route("/slow", slow).route("/hello", get(|| async { "hello" }))
}

/// Panics when the accept loop clones it for a connection.
struct Fragile(Router);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        panic!("as it was told to");
    }
}

impl Service<Request<Body>> for Fragile {
    type Response = Response;
    type Error = Infallible;
    type Future = <Router as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

#[tokio::test]
async fn a_process_whose_listener_fails_ends_with_an_error_instead_of_serving_nothing() {
    let any = "127.0.0.1:0".parse().unwrap();
    let [public, operations] = [bind("PUBLIC", any).await.unwrap(), bind("OPERATIONS", any).await.unwrap()];
    let address = public.address();
    let lifecycle = Lifecycle::new(GRACE);
    let public = Served { listener: public, service: Fragile(Router::new()), limits: Limits::default() };
    let operations = Served { listener: operations, service: Router::new(), limits: Limits::operations() };
    let running = tokio::spawn(async move { lifecycle.run(public, operations, Signals::none()).await });
    let _connection = TcpStream::connect(address).await.unwrap();
    let ending = in_time(running).await.unwrap();
    assert_eq!(ending, Ending::Aborted { connections: 0, tasks: 0 });
}

#[tokio::test]
async fn work_in_hand_is_finished_and_nothing_new_is_begun() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut service = start(routes(&entered, &release), Limits::default(), GRACE).await;
    let mut working = Connection::open(service.public).await;
    working.send(request("GET /slow", &[("X-Deadline-Ms", "30000")], "")).await;
    let mut idle = Connection::open(service.public).await;
    assert_eq!(idle.ask(request("GET /hello", &[], "")).await.status, 200);
    in_time(entered.notified()).await;
    assert_eq!(ask(service.operations, "GET /readyz", &[], "").await.status, 200);

    service.lifecycle.stop();

    let refused = idle.ask(request("GET /hello", &[], "")).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "shutting-down"));
    assert_eq!(refused.header("x-outcome"), Some("not-executed"));
    assert_eq!(refused.header("connection"), Some("close"));
    idle.closed().await;
    let ready = ask(service.operations, "GET /readyz", &[], "").await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (503, Some("shutting-down")));
    assert_eq!(ask(service.operations, "GET /livez", &[], "").await.status, 200);
    let address = service.public;
    until(|| async move { TcpStream::connect(address).await.is_err() }).await;

    // Four times what idle connections are given.
    let ended = tokio::time::timeout(Duration::from_secs(1), &mut service.ended).await;
    assert!(ended.is_err(), "it waits for the work in hand");
    release.notify_one();
    let reply = working.reply().await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert_eq!(service.ending().await, Ending::Finished);
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_a_shutdown_up() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let service = start(routes(&entered, &release), Limits::default(), GRACE).await;
    let mut idle = Connection::open(service.public).await;
    assert_eq!(idle.ask(request("GET /hello", &[], "")).await.status, 200);
    let began = Instant::now();
    service.lifecycle.stop();
    idle.closed().await;
    assert_eq!(service.ending().await, Ending::Finished);
    assert!(began.elapsed() < GRACE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_critical_section_whose_client_left_is_waited_for() {
    let lifecycle_of = Arc::new(std::sync::OnceLock::<chassis::server::Lifecycle>::new());
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let done = Arc::new(Notify::new());
    let router = {
        let (life, entered, release, done) =
            (lifecycle_of.clone(), entered.clone(), release.clone(), done.clone());
        Router::new().route(
            "/commit",
            get(move || async move {
                let work = life.get().unwrap().tasks().shield(async move {
                    entered.notify_one();
                    release.notified().await;
                    done.notify_one();
                });
                work.await.map_or("lost", |()| "done")
            }),
        )
    };
    let service = start(router, Limits::default(), GRACE).await;
    lifecycle_of.set(service.lifecycle.clone()).unwrap();
    let mut client = Connection::open(service.public).await;
    client.send(request("GET /commit", &[], "")).await;
    in_time(entered.notified()).await;
    drop(client);
    service.lifecycle.stop();
    let ops = service.operations;
    until(|| async move { ask(ops, "GET /readyz", &[], "").await.status == 503 }).await;
    assert!(!service.ended.is_finished());
    release.notify_one();
    assert_eq!(service.ending().await, Ending::Finished);
    in_time(done.notified()).await;
}

#[tokio::test]
async fn what_is_left_after_the_grace_is_cut_and_counted() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let service = start(routes(&entered, &release), Limits::default(), Duration::from_millis(500)).await;
    let mut working = Connection::open(service.public).await;
    working.send(request("GET /slow", &[("X-Deadline-Ms", "30000")], "")).await;
    in_time(entered.notified()).await;
    service.lifecycle.tasks().spawn(std::future::pending::<()>());
    service.lifecycle.stop();
    assert_eq!(service.ending().await, Ending::Aborted { connections: 1, tasks: 1 });
    working.closed().await;
}

#[tokio::test]
async fn an_abort_does_not_wait_for_the_grace() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let service = start(routes(&entered, &release), Limits::default(), Duration::from_mins(5)).await;
    let mut working = Connection::open(service.public).await;
    working.send(request("GET /slow", &[("X-Deadline-Ms", "30000")], "")).await;
    in_time(entered.notified()).await;
    service.lifecycle.abort();
    assert!(matches!(service.ending().await, Ending::Aborted { connections: 1, .. }));
}

/// Not a test of its own: the process that the tests below start, signal and wait for.
#[tokio::test]
async fn a_service_process() {
    let Ok(exit_with_stdin) = std::env::var("CHASSIS_TEST_EXIT_WITH_STDIN") else { return };
    let signals = Signals::install(exit_with_stdin == "1").unwrap();
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let router = routes(&entered, &release);
    let service = start_with(
        [router, Router::new()],
        Router::new(),
        Limits::default(),
        Duration::from_mins(5),
        signals,
    )
    .await;
    eprintln!("address {}", service.public);
    let ending = service.ended.await.unwrap();
    eprintln!("{ending:?}");
}

struct Process {
    child: Child,
    address: std::net::SocketAddr,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Process {
    fn start(exit_with_stdin: &str) -> Self {
        use std::io::BufRead;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_service_process", "--nocapture", "--test-threads=1"])
            .env("CHASSIS_TEST_EXIT_WITH_STDIN", exit_with_stdin)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let address = loop {
            let line = lines.recv_timeout(PATIENCE).unwrap();
            if let Some(address) = line.strip_prefix("address ") {
                break address.parse().unwrap();
            }
        };
        Self { child, address, lines }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The last line it wrote, once it has ended by itself.
    fn ending(mut self) -> String {
        let mut last = String::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            last = line;
        }
        let ended = self.child.try_wait().unwrap().is_some() || self.child.wait().is_ok();
        assert!(ended);
        last
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn sigterm_stops_a_process_gracefully() {
    let process = Process::start("0");
    assert_eq!(ask(process.address, "GET /hello", &[], "").await.status, 200);
    process.signal("-TERM");
    assert_eq!(process.ending(), "Finished");
}

#[tokio::test]
async fn a_second_signal_aborts_at_once() {
    let process = Process::start("0");
    let mut working = Connection::open(process.address).await;
    working.send(request("GET /slow", &[("X-Deadline-Ms", "30000")], "")).await;
    // The request is in hand once another connection has been served after it.
    assert_eq!(ask(process.address, "GET /hello", &[], "").await.status, 200);
    process.signal("-INT");
    let address = process.address;
    until(|| async move { TcpStream::connect(address).await.is_err() }).await;
    process.signal("-INT");
    let ending = process.ending();
    assert!(ending.starts_with("Aborted"), "{ending}");
}

#[tokio::test]
async fn the_end_of_standard_input_stops_a_process_that_asked_for_it() {
    let mut process = Process::start("1");
    let mut stdin = process.child.stdin.take().unwrap();
    stdin.write_all(b"a line is not the end\n").unwrap();
    assert_eq!(ask(process.address, "GET /hello", &[], "").await.status, 200);
    drop(stdin);
    assert_eq!(process.ending(), "Finished");
}
