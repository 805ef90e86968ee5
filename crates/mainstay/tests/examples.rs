//! Runs the examples, because people copy them; compiling alone is not enough.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// `cargo test` builds the examples beside the tests.
fn example(name: &str) -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push(name);
    assert!(path.exists(), "{} is built by `cargo test`, and by `cargo build --examples`", path.display());
    Command::new(path)
}

/// The server process, killed when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let mut child = example("server").arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        // Later output of the server must be read, so that its pipe does not fill.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, address }
    }

    fn url(&self) -> String {
        format!("http://{}/slow/1", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_reqwest_transport_reaches_the_server() {
    let server = Server::start();
    let said = output(example("reqwest_transport").arg(server.url()));
    assert!(said.starts_with("success: ") && said.contains("200"), "{said}");
}

#[cfg(feature = "hyper")]
#[test]
fn the_client_reaches_the_server_and_reports_when_it_is_gone() {
    let server = Server::start();
    let url = server.url();
    let said = output(example("client").args([&url, "2"]));
    assert_eq!(said.matches("success: 200 OK").count(), 2, "{said}");
    assert!(said.contains("breaker of 127.0.0.1:") && said.contains(" is closed"), "{said}");
    drop(server);
    let said = output(example("client").args([&url, "2"]));
    assert!(said.contains("failed-known: no connection") && said.contains("retry"), "{said}");
}

#[test]
fn each_example_stays_under_sixty_lines() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    let examples: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(examples.len() >= 3, "{examples:?}");
    for example in examples {
        let lines = std::fs::read_to_string(&example).unwrap().lines().count();
        assert!(lines < 60, "{} has {lines} lines", example.display());
    }
}
