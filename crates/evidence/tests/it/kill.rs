//! A process that is killed, and a disk that is full, with the real writer in a process of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use evidence::Store;

use crate::support::{Folder, NOON};

/// The example that writes events until its input ends.
fn writer() -> PathBuf {
    // The tests' executable is in target/<profile>/deps; examples are beside that folder.
    let tests = std::env::current_exe().unwrap();
    tests.parent().unwrap().parent().unwrap().join("examples/write")
}

fn spawn(folder: &Folder, shell: &str) -> Child {
    let command = format!("{shell} exec \"$0\" \"$1\" 64");
    let mut child = Command::new("bash");
    child.args(["-c", &command]).arg(writer()).arg(folder.path());
    child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_store_survives_being_killed_again_and_again() {
    let folder = Folder::new();
    let mut before = 0;
    for turn in 0..8 {
        let mut child = spawn(&folder, "");
        std::thread::sleep(Duration::from_millis(120 + 17 * turn));
        child.kill().unwrap();
        child.wait().unwrap();
        let (_, repairs) = Store::open(folder.options(), NOON).unwrap();
        assert_eq!(repairs.broken, 0);
        assert_eq!(folder.faults(), [""; 0], "after kill {turn}");
        let (events, weight) = folder.count("");
        assert!(events > before, "after kill {turn}: {events} events, {before} before");
        assert_eq!(events, weight);
        before = events;
    }
}

#[test]
fn a_disk_that_takes_no_more_bytes_loses_events_and_nothing_else() {
    let folder = Folder::new();
    // No file may grow beyond 40 blocks of 1 KiB: less than a segment, so the disk refuses in the middle of one.
    let mut child = spawn(&folder, "trap '' XFSZ; ulimit -f 40;");
    std::thread::sleep(Duration::from_millis(600));
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = String::from_utf8(output.stdout).unwrap();
    let figure = |name: &str| -> u64 {
        let line = report.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{report}"));
        line[name.len()..].trim().parse().unwrap()
    };
    assert!(figure("dropped") > 0, "{report}");
    drop(Store::open(folder.options(), NOON).unwrap());
    assert_eq!(folder.faults(), [""; 0]);
    assert_eq!(folder.count("").0, figure("written"), "every event was written or counted as dropped");
    assert_eq!(figure("written") + figure("dropped"), figure("recorded"));
}
