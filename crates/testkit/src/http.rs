//! HTTP client for tests, with a log of requests and replies.
//!
//! Every request of a client with a principal goes into the shared [`RequestLog`]. The checker later compares the
//! replies with the journals, without further code in the test.

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
use journal::hex;
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

/// Default timeout. It is longer than the longest deadline of a request (30 s), so that only a service that hangs
/// exceeds it.
const PATIENCE: Duration = Duration::from_secs(35);

/// Failure of a request that was not answered.
#[derive(Debug)]
pub enum Unanswered {
    /// The client could not connect, so the request was certainly not executed.
    NoConnection(HyperError),
    /// The connection ended early, or the reply was malformed.
    Broken(String),
    /// No reply came within the client's timeout.
    Silence(Duration),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection(error) => write!(f, "no connection: {error}"),
            Self::Broken(error) => write!(f, "reply incomplete or malformed: {error}"),
            Self::Silence(patience) => write!(f, "no reply within {patience:?}"),
        }
    }
}

impl std::error::Error for Unanswered {}

/// Requests of all clients with their replies, in the order in which the replies came or the requests timed out.
#[derive(Debug, Clone, Default)]
pub struct RequestLog(Arc<Mutex<Vec<ClientRequest>>>);

impl RequestLog {
    /// The requests logged so far.
    pub fn requests(&self) -> Vec<ClientRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn push(&self, request: ClientRequest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }
}

/// A client of one service for one principal. Clones share the connections and the log.
#[derive(Debug, Clone)]
pub struct Client {
    hyper: Hyper<HttpConnector, Full<Bytes>>,
    base: String,
    authorization: Option<HeaderValue>,
    patience: Duration,
    logged: Option<(RequestLog, Side, String)>,
}

impl Client {
    /// A client of the service at `base` (`http://host:port`), without token and log.
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

    /// Sets the timeout of a request.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Logs every request as a request of `principal`.
    #[must_use]
    pub fn logged(self, log: &RequestLog, service: Side, principal: &str) -> Self {
        Self { logged: Some((log.clone(), service, principal.to_owned())), ..self }
    }

    /// A GET request.
    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    /// A POST request with a random idempotency key.
    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path).key(&format!("test-{}", Uuid::new_v4()))
    }

    /// A PUT request.
    pub fn put(&self, path: &str) -> Call {
        self.call(Method::PUT, path)
    }

    /// A DELETE request.
    pub fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    /// A request with any method.
    pub fn call(&self, method: Method, path: &str) -> Call {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        let uri = format!("{}{path}", self.base);
        *request.uri_mut() = uri.parse().unwrap_or_else(|error| panic!("invalid URL {uri:?}: {error}"));
        let call = Call { client: self.clone(), request, key: None };
        match &self.authorization {
            Some(authorization) => call.header(&header::AUTHORIZATION, authorization.clone()),
            None => call,
        }
    }
}

/// A request under construction. [`Call::send`] sends it.
#[derive(Debug)]
#[must_use = "the request is not sent before `send`"]
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
        let value =
            value.try_into().unwrap_or_else(|error| panic!("invalid value for header {name}: {error:?}"));
        self.request.headers_mut().insert(name, value);
        self
    }

    /// Removes a header.
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

    /// The idempotency key, for repeating the request.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Sets the timeout.
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

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        *self.request.body_mut() = Full::new(body.into());
        self
    }

    /// Sends the request and reads the whole reply.
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
            let reply = answer.as_ref().ok().map(|reply| reply.to_logged(*service));
            // Without a connection the request was not executed, so log it as such a reply.
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

/// Text of an error with its causes. hyper's own text rarely names the cause.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn not_executed() -> ClientReply {
    ClientReply { outcome: Some("not-executed".to_owned()), ..ClientReply::default() }
}

/// A complete reply.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: StatusCode,
    /// Header fields.
    pub headers: http::HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON, or null if the body is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header's text, or an empty text if the reply lacks the header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Stable name of the problem, if the reply is a problem.
    pub fn problem(&self) -> Option<String> {
        if !self.header("content-type").starts_with("application/problem+json") {
            return None;
        }
        let kind = self.json()["type"].as_str()?.to_owned();
        Some(kind.rsplit([':', '/']).next()?.to_owned())
    }

    /// True if the service replayed the reply of an earlier request.
    pub fn is_replayed(&self) -> bool {
        self.header("idempotent-replayed") == "true"
    }

    /// Returns the reply if it has this status.
    ///
    /// # Panics
    /// If it has another status. The message holds the whole reply.
    #[track_caller]
    #[allow(clippy::return_self_not_must_use, reason = "callers that only assert drop the reply")]
    pub fn expect(self, status: u16) -> Self {
        assert!(self.status.as_u16() == status, "expected {status}, got {self}");
        self
    }

    /// The checker's form of the reply.
    pub(crate) fn to_logged(&self, service: Side) -> ClientReply {
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
