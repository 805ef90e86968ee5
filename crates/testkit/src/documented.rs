//! An API held to its description: every answer that it names is given, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use mainstay::headers::{IDEMPOTENCY_KEY, X_DEADLINE_MS};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::http::{Call, Client, Reply};

/// A route, and what a good request to it looks like.
#[derive(Debug, Clone)]
pub struct Route {
    /// `get` or `post`.
    pub method: &'static str,
    /// Its path in the description.
    pub template: &'static str,
    /// The path of something that exists or could.
    pub path: String,
    /// A body, if it takes one.
    pub body: Option<Value>,
    /// Who may.
    pub roles: &'static [&'static str],
}

impl Route {
    /// Its name here: `post /v1/orders`.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }

    /// A good request.
    pub fn call(&self, client: &Client) -> Call {
        let call = self.bare(client);
        match &self.body {
            Some(body) => call.json(body),
            None => call,
        }
    }

    /// A request without a body.
    pub fn bare(&self, client: &Client) -> Call {
        if self.method == "get" { client.get(&self.path) } else { client.post(&self.path) }
    }
}

/// A client for each role, `nobody` included.
pub type ClientOf<'a> = dyn Fn(&str) -> Client + 'a;

/// What the description names and what was seen: route and status.
#[derive(Debug)]
pub struct Documented {
    named: BTreeSet<(String, u16)>,
    /// What is said of each.
    words: BTreeMap<(String, u16), String>,
    seen: BTreeSet<(String, u16)>,
}

impl Documented {
    /// Of an OpenAPI document.
    pub fn new(description: &Value) -> Self {
        let mut words = BTreeMap::new();
        let members = |value: &Value| value.as_object().cloned().unwrap_or_default();
        for (path, methods) in members(&description["paths"]) {
            for (method, operation) in members(&methods) {
                for (status, response) in members(&operation["responses"]) {
                    let Ok(status) = status.parse() else { continue };
                    let said = response["description"].as_str().unwrap_or_default().to_owned();
                    words.insert((format!("{method} {path}"), status), said);
                }
            }
        }
        Self { named: words.keys().cloned().collect(), words, seen: BTreeSet::new() }
    }

    /// Every route that it describes.
    pub fn routes(&self) -> BTreeSet<String> {
        self.named.iter().map(|(route, _)| route.clone()).collect()
    }

    /// Named and not seen.
    pub fn missing(&self) -> Vec<&(String, u16)> {
        self.named.difference(&self.seen).collect()
    }

    /// Seen and not named.
    pub fn unnamed(&self) -> Vec<&(String, u16)> {
        self.seen.difference(&self.named).collect()
    }

    /// Sends `call` and notes its answer, which must be this one and look as every answer does.
    ///
    /// # Panics
    /// With the whole reply when it is another.
    pub async fn expect(&mut self, route: &str, call: Call, status: u16, problem: Option<&str>) -> Reply {
        let reply = call.send().await.unwrap_or_else(|error| panic!("{route}: no answer: {error}"));
        let reply = reply.expect(status);
        self.note(route, &reply, problem);
        reply
    }

    fn note(&mut self, route: &str, reply: &Reply, problem: Option<&str>) {
        let status = reply.status.as_u16();
        assert_eq!(reply.problem().as_deref(), problem, "{route}: {reply}");
        self.seen.insert((route.to_owned(), status));
        assert!(!reply.header("x-correlation-id").is_empty(), "{reply}");
        if let Some(name) = problem {
            let body = reply.json();
            assert_eq!(body["type"], format!("urn:mainstay:problem:{name}"));
            assert_eq!(body["status"], status);
            assert_eq!(body["correlation_id"], reply.header("x-correlation-id"), "{reply}");
            assert!(body["retryable"].is_boolean() && body["same_key"].is_boolean(), "{reply}");
            assert_eq!(body["outcome"].as_str().unwrap_or_default(), reply.header("x-outcome"), "{reply}");
            // What the client caused is described in words here and there; what it did not, by its name.
            if status >= 500 {
                let said = self.words.get(&(route.to_owned(), status)).map_or("", String::as_str);
                assert!(
                    said.split(", ").any(|word| word == name),
                    "{route}: {status} {name} is not {said:?}"
                );
            }
            if matches!(status, 429 | 503) {
                assert!(!reply.header("retry-after").is_empty(), "{reply}");
            }
        }
    }

    /// The same answer of every route to a good request, as a service gives it whose database is away, whose caller is
    /// over its quota, and so on.
    pub async fn all(&mut self, routes: &[Route], client: &ClientOf<'_>, status: u16, problem: &str) {
        for route in routes {
            let call = route.call(&client(route.roles[0]));
            self.expect(&route.name(), call, status, Some(problem)).await;
        }
    }

    /// What every route answers to a caller that has spent its quota. How much that is does not matter, as long as it
    /// can be spent faster than it comes back.
    pub async fn over_quota(&mut self, routes: &[Route], client: &ClientOf<'_>) {
        for route in routes {
            let call = || route.call(&client(route.roles[0]));
            let mut spent = false;
            for _ in 0..50 {
                let reply =
                    call().send().await.unwrap_or_else(|error| panic!("{route:?}: no answer: {error}"));
                spent = reply.problem().as_deref() == Some("rate-limited");
                if spent {
                    self.note(&route.name(), &reply, Some("rate-limited"));
                    break;
                }
            }
            assert!(spent, "{} is not limited", route.name());
        }
    }

    /// What every route answers to the wrong caller, the late one, and one that sends nonsense.
    pub async fn wrong_requests(&mut self, routes: &[Route], client: &ClientOf<'_>) {
        for route in routes {
            let name = route.name();
            let good = client(route.roles[0]);
            let others = ["client", "service", "operator"];
            let other =
                others.into_iter().find(|role| !route.roles.contains(role)).expect("nobody may do all");
            self.expect(&name, route.call(&client("nobody")), 401, Some("unauthenticated")).await;
            self.expect(&name, route.call(&client(other)), 403, Some("forbidden")).await;
            let late = route.call(&good).header(&X_DEADLINE_MS, "0");
            let late = self.expect(&name, late, 504, Some("deadline-exceeded")).await;
            assert_eq!(late.json()["outcome"], "not-executed");
            if route.method == "get" {
                continue;
            }
            let keyless = route.call(&good).without(&IDEMPOTENCY_KEY);
            let refused = self.expect(&name, keyless, 400, Some("idempotency-key-missing")).await;
            assert_eq!(refused.json()["errors"][0]["field"], "Idempotency-Key");
            let short = route.call(&good).key("too short");
            self.expect(&name, short, 400, Some("idempotency-key-invalid")).await;
            let text =
                |text: &'static str| route.bare(&good).header(&CONTENT_TYPE, "application/json").body(text);
            self.expect(&name, text("{"), 400, Some("malformed-json")).await;
            self.expect(&name, text("{\"x\": 1}"), 422, Some("validation-failed")).await;
            self.expect(&name, text("[]"), 422, Some("validation-failed")).await;
            let xml = route.bare(&good).header(&CONTENT_TYPE, "text/xml").body("<a/>");
            self.expect(&name, xml, 415, Some("unsupported-media-type")).await;
            let huge = route.call(&good).body(" ".repeat(256 * 1024 + 1));
            self.expect(&name, huge, 413, Some("payload-too-large")).await;
        }
    }

    /// What every command answers to a body of which only the beginning comes. All at once, since each takes as long as
    /// a service waits for a body to go on.
    pub async fn stalled_bodies(
        &mut self,
        routes: &[Route],
        authority: &str,
        token: &dyn Fn(&str) -> String,
    ) {
        let mut stalled = JoinSet::new();
        for route in routes.iter().filter(|route| route.method == "post") {
            let head = format!(
                "POST {} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {}\r\nidempotency-key: a-key-of-{}\r\n\
                 content-type: application/json\r\ncontent-length: 100\r\nx-deadline-ms: 30000\r\n\r\n{{",
                route.path,
                token(route.roles[0]),
                uuid::Uuid::new_v4()
            );
            let (name, authority) = (route.name(), authority.to_owned());
            stalled.spawn(async move { (name, stall(&authority, &head).await) });
        }
        while let Some(ended) = stalled.join_next().await {
            let (name, reply) = ended.expect("a stalled request does not panic");
            let reply = reply.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(reply.starts_with("HTTP/1.1 408 "), "{name}: {reply}");
            assert!(reply.contains("urn:mainstay:problem:request-timeout"), "{name}: {reply}");
            self.seen.insert((name, 408));
        }
    }
}

/// Longer than a service waits for a body (2 s).
const STALLED: Duration = Duration::from_secs(25);

async fn stall(authority: &str, head: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(authority).await?;
    stream.write_all(head.as_bytes()).await?;
    let mut reply = Vec::new();
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(&reply).contains("\r\n\r\n{") || !reply.ends_with(b"}") {
        let read = timeout(STALLED, stream.read(&mut part)).await??;
        anyhow::ensure!(read > 0, "closed after {:?}", String::from_utf8_lossy(&reply));
        reply.extend_from_slice(&part[..read]);
    }
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
