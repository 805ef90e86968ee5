//! A minimal service: it migrates one table, writes a row when it starts, answers every request with 200, and ends
//! when its standard input ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use local::pair::{Programs, RunningPair};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The test that acts as a service when it is run with `serve` or `migrate`.
const STAGE: &str = "the_pair_starts_with_everything_it_needs_and_leaves_nothing_behind";

/// The environment variable that names the file in which a pair that is to be killed lists its parts.
pub(crate) const REPORT: &str = "LOCAL_TEST_REPORT";

pub(crate) fn programs() -> Programs {
    let executable = std::env::current_exe().unwrap().into_os_string();
    let command = |name: &str| vec![executable.clone(), "--exact".into(), STAGE.into(), name.into()];
    Programs { order: command("order"), inventory: command("inventory") }
}

fn is_argument(word: &str) -> bool {
    std::env::args().any(|argument| argument == word)
}

pub(crate) fn is_asked_for() -> bool {
    is_argument("serve") || is_argument("migrate")
}

pub(crate) async fn run() {
    let role = if is_argument("order") { "mainstay_order" } else { "mainstay_inventory" };
    if is_argument("migrate") {
        let mut owner = PgConnection::connect(&variable("MIGRATION_DATABASE_URL")).await.unwrap();
        let sql = format!("CREATE TABLE IF NOT EXISTS starts (); GRANT SELECT, INSERT ON starts TO {role}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut owner).await.unwrap();
        return;
    }
    assert!(std::env::var_os("MIGRATION_DATABASE_URL").is_none(), "the owner's password is not for serving");
    let accepted = std::fs::read_to_string(variable("AUTH_TOKENS_FILE")).unwrap();
    assert!(accepted.lines().all(|line| line.split(' ').count() == 3));
    if is_argument("order") {
        assert!(variable("INVENTORY_URL").starts_with("http://127.0.0.1:"));
        assert_eq!(std::fs::read_to_string(variable("INVENTORY_TOKEN_FILE")).unwrap().len(), 64);
    }
    let mut database = PgConnection::connect(&variable("DATABASE_URL")).await.unwrap();
    sqlx::raw_sql("INSERT INTO starts DEFAULT VALUES").execute(&mut database).await.unwrap();
    let (public, ops) = (listen("LISTEN_ADDR").await, listen("OPS_LISTEN_ADDR").await);
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let mut nothing = [0];
    tokio::select! {
        () = answer(public) => {}
        () = answer(ops) => {}
        _ = terminate.recv() => {}
        end = async { tokio::io::stdin().read(&mut nothing).await } => assert_eq!(end.unwrap(), 0),
    }
    // Tokio reads standard input in a thread that cannot be interrupted; the runtime would wait for it.
    std::process::exit(0);
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

async fn listen(name: &str) -> TcpListener {
    TcpListener::bind(variable(name)).await.unwrap()
}

async fn answer(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let _left = stream.read(&mut request).await;
        let _left = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    }
}

/// The processes and the directory of a pair.
pub(crate) struct PairParts {
    pub(crate) pids: Vec<u32>,
    pub(crate) home: PathBuf,
}

impl PairParts {
    pub(crate) fn of(pair: &RunningPair) -> Self {
        let pids = pair.ready().pids;
        let pids = [pids.order, pids.inventory, pids.postgres].into_iter().flatten().collect();
        Self { pids, home: pair.home().to_owned() }
    }

    pub(crate) fn report(&self) {
        let file = PathBuf::from(std::env::var_os(REPORT).unwrap());
        let new = file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&(&self.pids, &self.home)).unwrap()).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    pub(crate) fn read(report: &Path) -> Option<Self> {
        let (pids, home) = serde_json::from_slice(&std::fs::read(report).ok()?).unwrap();
        Some(Self { pids, home })
    }
}

pub(crate) fn is_alive(pid: u32) -> bool {
    // "pid (command) state …"; a process that ended but was not yet collected is in state Z.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub(crate) async fn wait_for<T>(mut check: impl FnMut() -> Option<T>) -> T {
    let within = Duration::from_mins(1);
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begun.elapsed() < within, "nothing within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
