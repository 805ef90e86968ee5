//! The command, run as people run it, with its state file in the test's own directory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use local::pair::{Ports, Ready};
use local::{TemporaryDirectory, ports};

pub(crate) const MAINSTAY: &str = env!("CARGO_BIN_EXE_mainstay");

pub(crate) fn scratch() -> TemporaryDirectory {
    TemporaryDirectory::create_in(&std::env::temp_dir()).unwrap()
}

pub(crate) fn mainstay(scratch: &TemporaryDirectory) -> Command {
    let mut command = Command::new(MAINSTAY);
    command.env("XDG_RUNTIME_DIR", scratch.path());
    command
}

pub(crate) fn output(command: &mut Command) -> (Output, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output, stdout, stderr)
}

pub(crate) fn free_base() -> u16 {
    loop {
        let base = ports::free().unwrap();
        if Ports::from_base(base).unwrap().all().into_iter().all(ports::is_free) {
            return base;
        }
    }
}

/// A running `mainstay up --json`. Dropping it kills the process, which ends the whole pair.
pub(crate) struct Up {
    pub(crate) process: Child,
    pub(crate) base: u16,
    pub(crate) line: String,
    pub(crate) ready: Ready,
    pub(crate) stderr: PathBuf,
    _stdout: BufReader<ChildStdout>,
}

impl Up {
    pub(crate) fn start(scratch: &TemporaryDirectory, arguments: &[&str]) -> Self {
        let base = free_base();
        let stderr = scratch.path().join("stderr");
        let mut process = mainstay(scratch)
            .args(["up", "--json", "--port-base", &base.to_string()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&stderr).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("{error}: {line:?}\n{}", std::fs::read_to_string(&stderr).unwrap())
        });
        Self { process, base, line, ready, stderr, _stdout: stdout }
    }

    pub(crate) fn signal(&self, name: &str) {
        send(name, self.process.id());
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    /// The process ids of the pair.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let pids = self.ready.pids;
        [pids.order, pids.inventory, pids.postgres].into_iter().flatten().collect()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _already_dead = self.process.kill();
        let _status = self.process.wait();
    }
}

/// Sends one request with an operator's token; returns status and body.
pub(crate) fn request(up: &Up, method: &str, path: &str, body: &str) -> (u16, String) {
    let address = up.ready.inventory.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Idempotency-Key: one-key-for-each-path{path}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        up.ready.tokens.operator,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let status = reply.split(' ').nth(1).unwrap().parse().unwrap();
    (status, reply.split_once("\r\n\r\n").unwrap().1.to_owned())
}

pub(crate) fn send(signal: &str, pid: u32) {
    let status = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {signal} {pid}");
}

pub(crate) fn is_alive(pid: u32) -> bool {
    // The format is "pid (command) state …". A process that ended but was not yet collected is in state Z.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
