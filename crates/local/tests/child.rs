//! Supervision of real processes.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside what clippy takes for a test")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use local::TemporaryDirectory;
use local::child::{Child, ChildEvent, ChildSpec, Restart, State, Stopped};

struct Fixture {
    directory: TemporaryDirectory,
    events: Arc<Mutex<Vec<ChildEvent>>>,
}

impl Fixture {
    fn new() -> Self {
        Self { directory: TemporaryDirectory::create_in(Path::new("/tmp")).unwrap(), events: Arc::default() }
    }

    fn spec(&self, script: &str) -> ChildSpec {
        ChildSpec {
            name: "child",
            program: PathBuf::from("sh"),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("GREETING".into(), "hello".into())],
            log: self.directory.path().join("child.log"),
            restart: Restart::Never,
            stop_within: Duration::from_secs(30),
        }
    }

    fn spawn(&self, spec: ChildSpec) -> Child {
        let events = Arc::clone(&self.events);
        Child::spawn(spec, Arc::new(move |event| events.lock().unwrap().push(event))).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("child.log")).unwrap()
    }

    fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}

fn is_alive(pid: u32) -> bool {
    // "pid (command) state …"; a process that ended but was not yet collected is in state Z.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn wait_for<T>(mut check: impl FnMut() -> Option<T>) -> T {
    let within = Duration::from_secs(30);
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begun.elapsed() < within, "nothing within {within:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_child_gets_its_environment_and_its_output_goes_to_the_log() {
    let scene = Fixture::new();
    let child = scene.spawn(scene.spec("echo $GREETING $MAINSTAY_EXIT_WITH_STDIN; echo error >&2"));
    wait_for(|| matches!(child.state(), State::Dead { .. }).then_some(())).await;
    assert_eq!(scene.log(), "hello 1\nerror\n");
}

#[tokio::test]
async fn a_child_that_dies_is_started_again_and_reported() {
    let scene = Fixture::new();
    let spec = ChildSpec { restart: Restart::WithBackOff, ..scene.spec("echo started; exec sleep 1000") };
    let child = scene.spawn(spec);
    let first = child.pid().unwrap();
    let starts = |n| move |log: String| (log == "started\n".repeat(n)).then_some(());
    wait_for(|| starts(1)(scene.log())).await;
    child.kill().await;
    child.kill().await; // killing a dead child changes nothing and does not delay the restart
    let second = wait_for(|| child.pid()).await;
    assert_ne!(first, second);
    assert!(!is_alive(first));
    let events = [
        "child died (signal: 9 (SIGKILL)); restarting in 200ms".to_owned(),
        format!("child runs again (process {second})"),
    ];
    assert_eq!(scene.events(), events);
    wait_for(|| starts(2)(scene.log())).await;
    child.stop().await;
}

#[tokio::test]
async fn a_child_that_is_not_to_be_restarted_stays_dead_until_started() {
    let scene = Fixture::new();
    let child = scene.spawn(scene.spec("exec sleep 1000"));
    child.kill().await;
    assert_eq!(child.pid(), None);
    assert_eq!(scene.events(), ["child died (signal: 9 (SIGKILL)); not restarted"]);
    child.start().await;
    assert!(is_alive(child.pid().unwrap()));
    child.stop().await;
}

#[tokio::test]
async fn stop_sends_a_sigterm_that_the_child_can_handle() {
    let scene = Fixture::new();
    let child =
        scene.spawn(scene.spec("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done"));
    wait_for(|| scene.log().contains("ready").then_some(())).await;
    let Stopped::ByItself(status) = child.stop().await else { panic!("it was killed") };
    assert_eq!(status.code(), Some(7));
    assert_eq!(scene.log(), "ready\nbye\n");
    assert_eq!(scene.events(), [""; 0], "a requested stop is no event");
    assert_eq!(child.stop().await, Stopped::WasDead);
}

#[tokio::test]
async fn a_child_that_ignores_sigterm_is_killed_in_the_end() {
    let scene = Fixture::new();
    let spec = ChildSpec {
        stop_within: Duration::from_millis(100),
        ..scene.spec("trap '' TERM; echo ready; while :; do sleep 0.01; done")
    };
    let child = scene.spawn(spec);
    let pid = child.pid().unwrap();
    wait_for(|| scene.log().contains("ready").then_some(())).await;
    assert_eq!(child.stop().await, Stopped::Killed);
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_paused_child_stands_still_until_it_is_resumed_or_stopped() {
    let scene = Fixture::new();
    let child = scene.spawn(scene.spec("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"));
    let pid = child.pid().unwrap();
    wait_for(|| scene.log().contains("ready").then_some(())).await;
    // "pid (command) state …"; T is stopped.
    let is_paused = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    child.pause().await;
    wait_for(|| is_paused().then_some(())).await;
    child.resume().await;
    wait_for(|| (!is_paused()).then_some(())).await;
    child.pause().await;
    wait_for(|| is_paused().then_some(())).await;
    let Stopped::ByItself(status) = child.stop().await else { panic!("it was killed") };
    assert_eq!(status.code(), Some(7));
}

#[tokio::test]
async fn dropping_the_handle_stops_the_child() {
    let scene = Fixture::new();
    let child = scene.spawn(scene.spec("exec sleep 1000"));
    let pid = child.pid().unwrap();
    drop(child);
    wait_for(|| (!is_alive(pid)).then_some(())).await;
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_an_error_at_once() {
    let scene = Fixture::new();
    let spec = ChildSpec { program: PathBuf::from("/no/such/program"), ..scene.spec("") };
    assert!(Child::spawn(spec, Arc::new(|_| {})).is_err());
}

/// The test runs its own executable again, as the process to kill.
#[tokio::test]
async fn kill_9_of_the_parent_ends_the_childs_standard_input() {
    if let Some(directory) = std::env::var_os("LOCAL_TEST_VICTIM").map(PathBuf::from) {
        let scene = Fixture::new();
        let script =
            "echo $$ >\"$REPORT.new\"; mv \"$REPORT.new\" \"$REPORT\"; cat; echo ended >>\"$REPORT\"";
        let mut spec = scene.spec(script);
        spec.environment.push(("REPORT".into(), directory.join("report").into()));
        let _child = scene.spawn(spec);
        return std::future::pending().await;
    }
    let scene = Fixture::new();
    let mut victim = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill_9_of_the_parent_ends_the_childs_standard_input"])
        .env("LOCAL_TEST_VICTIM", scene.directory.path())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let report = || std::fs::read_to_string(scene.directory.path().join("report")).ok();
    let pid: u32 = wait_for(report).await.trim().parse().unwrap();
    victim.kill().await.unwrap();
    wait_for(|| report().filter(|report| report.contains("ended"))).await;
    wait_for(|| (!is_alive(pid)).then_some(())).await;
}
