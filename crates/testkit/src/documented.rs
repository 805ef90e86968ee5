//! Test that a service and its OpenAPI document agree: the service gives every documented answer and no other.

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

/// A route and a valid request to it.
#[derive(Debug, Clone)]
pub struct Route {
    /// `get` or `post`.
    pub method: &'static str,
    /// Path in the OpenAPI document, with placeholders.
    pub template: &'static str,
    /// Path of a valid request, with the placeholders filled in.
    pub path: String,
    /// Body of a valid request, if the route takes a body.
    pub body: Option<Value>,
    /// Roles that may call the route.
    pub roles: &'static [&'static str],
}

impl Route {
    /// Method and path, such as `post /v1/orders`.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }

    /// A valid request.
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

/// A function that gives a client for a role. For the role name `nobody` it gives a client without a valid token.
pub type ClientOf<'a> = dyn Fn(&str) -> Client + 'a;

/// Comparison of documented and observed answers. An answer is a route and a status.
#[derive(Debug)]
pub struct Documented {
    described: BTreeSet<(String, u16)>,
    /// Description of each documented answer.
    descriptions: BTreeMap<(String, u16), String>,
    observed: BTreeSet<(String, u16)>,
}

impl Documented {
    /// A comparison against an OpenAPI document, without observed answers.
    pub fn new(description: &Value) -> Self {
        let mut descriptions = BTreeMap::new();
        let members = |value: &Value| value.as_object().cloned().unwrap_or_default();
        for (path, methods) in members(&description["paths"]) {
            for (method, operation) in members(&methods) {
                for (status, response) in members(&operation["responses"]) {
                    let Ok(status) = status.parse() else { continue };
                    let text = response["description"].as_str().unwrap_or_default().to_owned();
                    descriptions.insert((format!("{method} {path}"), status), text);
                }
            }
        }
        Self { described: descriptions.keys().cloned().collect(), descriptions, observed: BTreeSet::new() }
    }

    /// The documented routes.
    pub fn routes(&self) -> BTreeSet<String> {
        self.described.iter().map(|(route, _)| route.clone()).collect()
    }

    /// Answers that are documented but were not observed.
    pub fn missing(&self) -> Vec<&(String, u16)> {
        self.described.difference(&self.observed).collect()
    }

    /// Answers that were observed but are not documented.
    pub fn unnamed(&self) -> Vec<&(String, u16)> {
        self.observed.difference(&self.described).collect()
    }

    /// Sends `call`, requires the given status and problem, checks the members and headers that every answer must have,
    /// and records the answer as observed.
    ///
    /// # Panics
    /// If the answer differs. The message holds the whole reply.
    pub async fn expect(&mut self, route: &str, call: Call, status: u16, problem: Option<&str>) -> Reply {
        let reply = call.send().await.unwrap_or_else(|error| panic!("{route}: no answer: {error}"));
        let reply = reply.expect(status);
        self.note(route, &reply, problem);
        reply
    }

    fn note(&mut self, route: &str, reply: &Reply, problem: Option<&str>) {
        let status = reply.status.as_u16();
        assert_eq!(reply.problem().as_deref(), problem, "{route}: {reply}");
        self.observed.insert((route.to_owned(), status));
        assert!(!reply.header("x-correlation-id").is_empty(), "{reply}");
        if let Some(name) = problem {
            let body = reply.json();
            assert_eq!(body["type"], format!("urn:mainstay:problem:{name}"));
            assert_eq!(body["status"], status);
            assert_eq!(body["correlation_id"], reply.header("x-correlation-id"), "{reply}");
            assert!(body["retryable"].is_boolean() && body["same_key"].is_boolean(), "{reply}");
            assert_eq!(body["outcome"].as_str().unwrap_or_default(), reply.header("x-outcome"), "{reply}");
            // The description of a 5xx answer is a list of problem names. Descriptions of 4xx answers are free text.
            if status >= 500 {
                let key = (route.to_owned(), status);
                let description = self.descriptions.get(&key).map_or("", String::as_str);
                assert!(
                    description.split(", ").any(|word| word == name),
                    "{route}: {status} {name} is not listed in {description:?}"
                );
            }
            if matches!(status, 429 | 503) {
                assert!(!reply.header("retry-after").is_empty(), "{reply}");
            }
        }
    }

    /// Sends a valid request to every route and requires the same answer from each, for example while the database is
    /// unreachable.
    pub async fn all(&mut self, routes: &[Route], client: &ClientOf<'_>, status: u16, problem: &str) {
        for route in routes {
            let call = route.call(&client(route.roles[0]));
            self.expect(&route.name(), call, status, Some(problem)).await;
        }
    }

    /// Calls every route until it answers that the caller's quota is spent, at most 50 times.
    ///
    /// The size of the quota does not matter, as long as the calls spend it faster than it refills.
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
            assert!(spent, "{} has no quota: it answered 50 calls", route.name());
        }
    }

    /// Sends every route requests that it must refuse: without a valid token, of a wrong role, after the deadline, and,
    /// for commands, with an invalid key, content type or body.
    pub async fn wrong_requests(&mut self, routes: &[Route], client: &ClientOf<'_>) {
        for route in routes {
            let name = route.name();
            let good = client(route.roles[0]);
            let others = ["client", "service", "operator"];
            let other = others
                .into_iter()
                .find(|role| !route.roles.contains(role))
                .expect("no route is open to every role");
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

    /// Sends every command a body that stops after its first byte, and requires 408.
    ///
    /// The requests run concurrently, because each lasts as long as a service waits for the rest of a body.
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
            self.observed.insert((name, 408));
        }
    }
}

/// Limit for the answer to a stalled body: longer than the 2 s that a service waits for a body.
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
