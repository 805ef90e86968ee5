//! The program as a user runs it: it serves, reports, refuses, and ends when standard input does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// An address that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}

#[test]
fn the_service_serves_reports_and_ends() {
    let (public, operations) = (free(), free());
    let mut service = Command::new(env!("CARGO_BIN_EXE_chassis-alone"))
        .env("LISTEN_ADDR", public.to_string())
        .env("OPS_LISTEN_ADDR", operations.to_string())
        .env("MAINSTAY_EXIT_WITH_STDIN", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while get(operations, "/readyz").is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "the service did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(get(operations, "/readyz").unwrap().contains("\"greetings\""));
    assert!(get(public, "/v1/hello/world").unwrap().ends_with("Hello, world!\n"));
    assert!(get(public, "/v1/hello/-").unwrap().contains("urn:mainstay:problem:not-found"));
    assert!(get(public, "/nowhere").unwrap().starts_with("HTTP/1.1 404"));
    assert!(get(operations, "/metrics").unwrap().contains("build_info{service=\"hello\""));
    drop(service.stdin.take());
    assert!(service.wait().unwrap().success());
}
