//! The private server against a real PostgreSQL.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside what clippy takes for a test")]

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use local::{Postgres, PostgresError, PostgresOptions, TemporaryDirectory, ports};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection};

fn scratch() -> TemporaryDirectory {
    TemporaryDirectory::create_in(Path::new("/tmp")).unwrap()
}

fn kept(directory: &TemporaryDirectory) -> PostgresOptions {
    PostgresOptions { fsync: false, ..PostgresOptions::kept(directory.path().join("kept")) }
}

async fn run(postgres: &Postgres, sql: &'static str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(&postgres.connect_options("postgres")).await?;
    sqlx::raw_sql(sql).execute(&mut connection).await?;
    connection.close().await
}

async fn text(postgres: &Postgres, sql: &'static str) -> String {
    let mut connection = PgConnection::connect_with(&postgres.connect_options("postgres")).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

fn kill_9(pid: u32) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_temporary_server_answers_and_leaves_nothing_behind() {
    let postgres = Postgres::start(PostgresOptions::for_tests().setting("work_mem", "5MB")).await.unwrap();
    assert_eq!(text(&postgres, "SHOW work_mem").await, "5MB");
    assert_eq!(text(&postgres, "SHOW fsync").await, "off");
    let (directory, pid) = (postgres.directory().to_owned(), postgres.pid().unwrap());
    assert!(directory.exists());
    postgres.stop().await.unwrap();
    assert!(!directory.parent().unwrap().exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn a_session_needs_the_password_and_only_the_owner_can_read_its_file() {
    let scratch = scratch();
    let postgres = Postgres::start(kept(&scratch)).await.unwrap();
    let wrong = postgres.connect_options("postgres").password("guess");
    let refused = PgConnection::connect_with(&wrong).await.unwrap_err();
    assert!(refused.to_string().contains("password authentication failed"), "{refused}");
    let mode = std::fs::metadata(postgres.directory().join("password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn kept_data_is_there_after_a_stop_and_after_a_crash() {
    let scratch = scratch();
    let postgres = Postgres::start(kept(&scratch)).await.unwrap();
    run(&postgres, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").await.unwrap();
    postgres.stop().await.unwrap();

    let mut postgres = Postgres::start(kept(&scratch)).await.unwrap();
    run(&postgres, "INSERT INTO kept VALUES (2)").await.unwrap();
    kill_9(postgres.pid().unwrap());
    let port = postgres.port();
    postgres.start_again().await.unwrap();
    assert_eq!(postgres.port(), port);
    assert_eq!(text(&postgres, "SELECT string_agg(n::text, ',' ORDER BY n) FROM kept").await, "1,2");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_stale_lock_file_with_a_recycled_process_id_is_cleared() {
    let scratch = scratch();
    let mut postgres = Postgres::start(kept(&scratch)).await.unwrap();
    kill_9(postgres.pid().unwrap());
    while postgres.ended().is_none() {
        tokio::task::yield_now().await;
    }
    let lock = postgres.directory().join("data/postmaster.pid");
    let content = std::fs::read_to_string(&lock).unwrap();
    let rest = content.split_once('\n').unwrap().1;
    // The process id of this test: alive, and no PostgreSQL. Without help the server would refuse to start.
    std::fs::write(&lock, format!("{}\n{rest}", std::process::id())).unwrap();
    postgres.start_again().await.unwrap();
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn dropping_the_handle_frees_the_data_for_the_next_start() {
    let scratch = scratch();
    drop(Postgres::start(kept(&scratch)).await.unwrap());
    Postgres::start(kept(&scratch)).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_while_starting_says_why() {
    let options = PostgresOptions::for_tests().setting("max_connections", "none");
    let error = Postgres::start(options).await.unwrap_err();
    assert!(matches!(error, PostgresError::Died { .. }), "{error:?}");
    assert!(error.to_string().contains("invalid value for parameter \"max_connections\""), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let port = ports::free().unwrap();
    let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let options = PostgresOptions { port: Some(port), ..PostgresOptions::for_tests() };
    let error = Postgres::start(options).await.unwrap_err();
    assert!(matches!(error, PostgresError::PortInUse { port: p } if p == port), "{error:?}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_named() {
    let scratch = scratch();
    let file = scratch.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let error = Postgres::start(PostgresOptions::kept(&file)).await.unwrap_err();
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_directory_that_the_server_may_not_enter_is_reported_as_such() {
    let scratch = scratch();
    let closed = scratch.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    // As root the server runs as `postgres`, which may not enter a directory of root with mode 0700; another user may
    // not enter its own directory with mode 0.
    let mode = if rustix::process::geteuid().is_root() { 0o700 } else { 0o000 };
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(mode)).unwrap();
    let error = Postgres::start(PostgresOptions::kept(closed.join("data"))).await.unwrap_err();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    assert!(matches!(error, PostgresError::PermissionDenied { .. }), "{error:?}");
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused_while_the_first_lives() {
    let scratch = scratch();
    let first = Postgres::start(kept(&scratch)).await.unwrap();
    tokio::time::pause(); // the wait for the end of the first server passes at once
    let error = Postgres::start(kept(&scratch)).await.unwrap_err();
    assert!(
        matches!(error, PostgresError::DirectoryInUse { pid, .. } if Some(pid) == first.pid()),
        "{error:?}"
    );
    tokio::time::resume();
    first.stop().await.unwrap();
}

/// The test runs its own executable again, as the process to kill.
#[tokio::test]
async fn kill_9_of_the_parent_leaves_neither_server_nor_directory() {
    if let Some(report) = std::env::var_os("LOCAL_TEST_VICTIM") {
        return start_report_and_wait_to_be_killed(Path::new(&report)).await;
    }
    let scratch = scratch();
    let report = scratch.path().join("report");
    let mut victim = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill_9_of_the_parent_leaves_neither_server_nor_directory"])
        .env("LOCAL_TEST_VICTIM", &report)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let within = std::time::Duration::from_mins(1);
    let line = wait_for(within, || std::fs::read_to_string(&report).ok()).await;
    let (pid, directory) = line.trim().split_once('\n').unwrap();
    assert!(Path::new(directory).exists());

    victim.kill().await.unwrap(); // SIGKILL
    wait_for(within, || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())).await;
    wait_for(within, || (!Path::new(directory).parent().unwrap().exists()).then_some(())).await;
}

async fn wait_for<T>(within: std::time::Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begun.elapsed() < within, "nothing within {within:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn start_report_and_wait_to_be_killed(report: &Path) {
    let postgres = Postgres::start(PostgresOptions::for_tests()).await.unwrap();
    let line = format!("{}\n{}\n", postgres.pid().unwrap(), postgres.directory().display());
    std::fs::write(report.with_extension("new"), line).unwrap();
    std::fs::rename(report.with_extension("new"), report).unwrap();
    std::future::pending::<()>().await;
}
