//! A service on loopback and a client that says exactly what a test wants said.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use chassis::Tokens;
use chassis::ops::{self, Condition};
use chassis::server::{Ending, Lifecycle, Limits, Served, Signals, bind};
use mainstay::server::{ReadBodyConfig, ServerConfig};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Running {
    pub(crate) public: SocketAddr,
    pub(crate) operations: SocketAddr,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) ended: JoinHandle<Ending>,
}

impl Running {
    pub(crate) async fn ending(self) -> Ending {
        in_time(self.ended).await.unwrap()
    }
}

pub(crate) fn tokens() -> Tokens {
    let line = |role: &str, name: &str| {
        let hash: [u8; 32] = Sha256::digest(format!("{name}-token")).into();
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        format!("{role} {name} {hash}\n")
    };
    let text = [line("client", "shop"), line("service", "order"), line("operator", "ana")].concat();
    Tokens::parse(&text).unwrap()
}

pub(crate) fn server_config() -> ServerConfig {
    let tokens = tokens();
    let read_body = ReadBodyConfig::new(chassis::MAX_BODY, move |head| {
        tokens.principal(head.headers).map(|principal| principal.name.to_string().into())
    });
    ServerConfig::default().read_body(Some(read_body)).route(chassis::routes::matched)
}

/// Serves `open` behind the server stack, and operations beside it.
pub(crate) async fn start(open: Router, limits: Limits, grace: Duration) -> Running {
    start_with([open, Router::new()], Router::new(), limits, grace, Signals::none()).await
}

pub(crate) async fn start_with(
    [open, guarded]: [Router; 2],
    admin: Router,
    limits: Limits,
    grace: Duration,
    signals: Signals,
) -> Running {
    let lifecycle = Lifecycle::new(grace);
    let any = "127.0.0.1:0".parse().unwrap();
    let public = bind("LISTEN_ADDR", any).await.unwrap();
    let operations = bind("OPS_LISTEN_ADDR", any).await.unwrap();
    let (public_address, operations_address) = (public.address(), operations.address());
    let stack = lifecycle.server_stack(server_config()).unwrap();
    let service =
        chassis::routes::finish(open, &stack).merge(chassis::routes::guarded(guarded, &tokens(), &stack));
    let served = Served { listener: public, service, limits };
    let operations = Served {
        listener: operations,
        service: ops::router(
            &lifecycle,
            || async { vec![Condition::deciding("database", true)] },
            ops::admin(admin, &tokens(), None),
        ),
        limits: Limits::operations(),
    };
    let life = lifecycle.clone();
    let ended = tokio::spawn(async move { life.run(served, operations, signals).await });
    Running { public: public_address, operations: operations_address, lifecycle, ended }
}

pub(crate) async fn in_time<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.expect("it took too long")
}

/// Asks again until `holds`.
pub(crate) async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    in_time(async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The stable name at the end of a problem's `type`.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let kind = self.json()["type"].as_str().unwrap().to_owned();
        kind.rsplit(':').next().unwrap().to_owned()
    }

    /// The fields that a problem names.
    pub(crate) fn fields(&self) -> Vec<String> {
        let body = self.json();
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = in_time(TcpStream::connect(address)).await.unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        in_time(self.stream.write_all(text.as_ref())).await.unwrap();
    }

    /// Whether the service has closed; what else it sends is an error.
    pub(crate) async fn closed(&mut self) {
        let mut byte = [0];
        match in_time(self.stream.read(&mut byte)).await {
            Ok(0) => {}
            Ok(_) => panic!("the connection is open and says something"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// All bytes until the service closes.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        in_time(self.stream.read_to_end(&mut self.buffer)).await.unwrap();
        self.buffer
    }

    /// Whether nothing has come and nothing has closed.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    async fn more(&mut self) {
        let read = in_time(self.stream.read_buf(&mut self.buffer)).await.unwrap();
        assert_ne!(read, 0, "closed in the middle of a reply: {:?}", String::from_utf8_lossy(&self.buffer));
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            self.more().await;
        };
        let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HashMap<_, _> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < end + 4 + length {
            self.more().await;
        }
        let rest = self.buffer.split_off(end + 4 + length);
        let body = std::mem::replace(&mut self.buffer, rest).split_off(end + 4);
        Reply { status, headers, body }
    }

    pub(crate) async fn ask(&mut self, text: impl AsRef<[u8]>) -> Reply {
        self.send(text).await;
        self.reply().await
    }
}

/// A request as text: `request("POST /v1/things", &[("Authorization", "…")], "{}")`.
pub(crate) fn request(line: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{line} HTTP/1.1\r\nHost: test\r\n{}{length}\r\n{body}", headers.concat())
}

pub(crate) async fn ask(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    Connection::open(address).await.ask(request(line, headers, body)).await
}
