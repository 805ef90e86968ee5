//! A small HTTP client for tests, and the log of what its users were told.
//!
//! Every request with a principal's client goes into the shared [`RequestLog`], so that the checker can hold the
//! services to their word afterwards without a test having to think of it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use checker::{ClientReply, ClientRequest, Side};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Hyper, Error as HyperError};
use hyper_util::rt::TokioExecutor;
use journal::KeyHash;
use journal::entry::hex;
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

/// Longer than any deadline a request may ask for (30 s), so that only a service that hangs meets it.
const PATIENCE: Duration = Duration::from_secs(35);

/// What became of a request that was not answered.
#[derive(Debug)]
pub enum Unanswered {
    /// There was no connection: it was certainly not carried out.
    NoConnection(HyperError),
    /// The connection ended, or the answer was unreadable.
    Broken(String),
    /// Nothing came within the client's patience.
    Silence(Duration),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection(error) => write!(f, "no connection: {error}"),
            Self::Broken(what) => write!(f, "the answer broke off: {what}"),
            Self::Silence(patience) => write!(f, "no answer within {patience:?}"),
        }
    }
}

impl std::error::Error for Unanswered {}

/// Everything that clients sent and were told, in the order in which it was answered or given up.
#[derive(Debug, Clone, Default)]
pub struct RequestLog(Arc<Mutex<Vec<ClientRequest>>>);

impl RequestLog {
    /// What was logged so far.
    pub fn requests(&self) -> Vec<ClientRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn push(&self, request: ClientRequest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }
}

/// A client of one service, for one principal. Clones share connections and log.
#[derive(Debug, Clone)]
pub struct Client {
    hyper: Hyper<HttpConnector, Full<Bytes>>,
    base: String,
    authorization: Option<HeaderValue>,
    patience: Duration,
    logged: Option<(RequestLog, Side, String)>,
}

impl Client {
    /// For the service at `base` (`http://host:port`), with no token and no log.
    pub fn new(base: &str) -> Self {
        Self {
            hyper: Hyper::builder(TokioExecutor::new()).build_http(),
            base: base.trim_end_matches('/').to_owned(),
            authorization: None,
            patience: PATIENCE,
            logged: None,
        }
    }

    /// Sends `token` with every request.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        let mut value =
            HeaderValue::try_from(format!("Bearer {token}")).expect("a test's token is printable");
        value.set_sensitive(true);
        self.authorization = Some(value);
        self
    }

    /// Gives a request up after this long.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Logs every request as `principal`'s.
    #[must_use]
    pub fn logged(self, log: &RequestLog, service: Side, principal: &str) -> Self {
        Self { logged: Some((log.clone(), service, principal.to_owned())), ..self }
    }

    /// Begins a GET.
    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    /// Begins a POST with a random idempotency key.
    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path).key(&format!("test-{}", Uuid::new_v4()))
    }

    /// Begins a PUT.
    pub fn put(&self, path: &str) -> Call {
        self.call(Method::PUT, path)
    }

    /// Begins a DELETE.
    pub fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    /// Begins any request.
    pub fn call(&self, method: Method, path: &str) -> Call {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        let uri = format!("{}{path}", self.base);
        *request.uri_mut() = uri.parse().unwrap_or_else(|error| panic!("{uri:?} is no URL: {error}"));
        let call = Call { client: self.clone(), request, key: None };
        match &self.authorization {
            Some(authorization) => call.header(&header::AUTHORIZATION, authorization.clone()),
            None => call,
        }
    }
}

/// A request that was not sent yet.
#[derive(Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct Call {
    client: Client,
    request: Request<Full<Bytes>>,
    key: Option<String>,
}

impl Call {
    /// Sets a header.
    pub fn header<V>(mut self, name: &HeaderName, value: V) -> Self
    where
        V: TryInto<HeaderValue, Error: fmt::Debug>,
    {
        let value = value.try_into().unwrap_or_else(|error| panic!("not a value for {name}: {error:?}"));
        self.request.headers_mut().insert(name, value);
        self
    }

    /// Takes a header away.
    pub fn without(mut self, name: &HeaderName) -> Self {
        self.request.headers_mut().remove(name);
        if *name == mainstay::headers::IDEMPOTENCY_KEY {
            self.key = None;
        }
        self
    }

    /// Sets the idempotency key.
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self.header(&mainstay::headers::IDEMPOTENCY_KEY, key)
    }

    /// The idempotency key, for a repeat.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Gives it up after this long.
    pub fn patience(self, patience: Duration) -> Self {
        Self { client: self.client.patience(patience), ..self }
    }

    /// Sets the correlation id.
    pub fn correlation(self, id: &str) -> Self {
        self.header(&mainstay::headers::X_CORRELATION_ID, id)
    }

    /// Sets the deadline.
    pub fn deadline(self, left: Duration) -> Self {
        let millis = left.as_millis().to_string();
        self.header(&mainstay::headers::X_DEADLINE_MS, millis)
    }

    /// Sets a JSON body.
    pub fn json(self, body: &Value) -> Self {
        let bytes = body.to_string();
        self.header(&header::CONTENT_TYPE, "application/json").body(bytes)
    }

    /// Sets any body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        *self.request.body_mut() = Full::new(body.into());
        self
    }

    /// Sends it and reads the whole reply.
    pub async fn send(self) -> Result<Reply, Unanswered> {
        let Self { client, request, key } = self;
        let sent_id = request.headers().get(mainstay::headers::X_CORRELATION_ID).cloned();
        let answer = timeout(client.patience, exchange(&client.hyper, request)).await;
        let answer = answer.unwrap_or(Err(Unanswered::Silence(client.patience)));
        if let Some((log, service, principal)) = &client.logged {
            let got_id =
                answer.as_ref().ok().and_then(|reply| reply.headers.get("x-correlation-id").cloned());
            let id = got_id.or(sent_id);
            let never_sent = matches!(answer, Err(Unanswered::NoConnection(_)));
            let reply = answer.as_ref().ok().map(|reply| reply.as_told(*service));
            // No connection is as good as being told so.
            let reply = reply.or_else(|| never_sent.then(not_executed));
            log.push(ClientRequest {
                service: *service,
                principal: principal.clone(),
                key_hash: key.map(|key| hex(KeyHash::of(&key).as_bytes())),
                correlation_id: id.and_then(|id| id.to_str().ok().map(str::to_owned)).unwrap_or_default(),
                reply,
            });
        }
        answer
    }
}

async fn exchange(
    hyper: &Hyper<HttpConnector, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Reply, Unanswered> {
    let response = hyper.request(request).await.map_err(|error| {
        if error.is_connect() { Unanswered::NoConnection(error) } else { Unanswered::Broken(chain(&error)) }
    })?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| Unanswered::Broken(chain(&error)))?.to_bytes();
    Ok(Reply { status: head.status, headers: head.headers, body })
}

/// An error with everything that led to it: hyper's own text says little.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn not_executed() -> ClientReply {
    ClientReply { outcome: Some("not-executed".to_owned()), ..ClientReply::default() }
}

/// A whole reply.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header's text; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The stable name of the problem that the reply is, if it is one.
    pub fn problem(&self) -> Option<String> {
        if !self.header("content-type").starts_with("application/problem+json") {
            return None;
        }
        let kind = self.json()["type"].as_str()?.to_owned();
        Some(kind.rsplit([':', '/']).next()?.to_owned())
    }

    /// Whether it was replayed.
    pub fn is_replayed(&self) -> bool {
        self.header("idempotent-replayed") == "true"
    }

    /// Gives the reply when it has this status.
    ///
    /// # Panics
    /// With the whole reply when it has another.
    #[track_caller]
    #[allow(clippy::return_self_not_must_use, reason = "asserting is a use of its own")]
    pub fn expect(self, status: u16) -> Self {
        assert!(self.status.as_u16() == status, "expected {status}, got {self}");
        self
    }

    /// What the checker needs to know of it.
    pub(crate) fn as_told(&self, service: Side) -> ClientReply {
        ClientReply::read(service, self.status.as_u16(), &self.body)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        write!(f, "\n{}", String::from_utf8_lossy(&self.body))
    }
}
