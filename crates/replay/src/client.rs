//! The HTTP client of the commands. It is the client stack that the services use between them, with deadlines,
//! retries within a budget, and outcomes that may be unknown.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use local::Secret;
use mainstay::breaker::BreakerConfig;
use mainstay::client::{ClientConfig, ClientStack, HyperTransport, TransportConfig, stack};
use mainstay::headers::IDEMPOTENCY_KEY;
use mainstay::{CallError, Problem};
use serde::de::DeserializeOwned;
use tower::ServiceExt;

/// The total time of a call of the demo's script and its watcher, in place of the services' own default of 2 s.
const TOTAL: Duration = Duration::from_secs(10);
const ATTEMPT: Duration = Duration::from_secs(5);
/// The time in which an interactive command reads both services, or says which one is missing. It is below the 2 s
/// that a person waits for an answer, with room for the start of the program and its output.
pub const READS_WITHIN: Duration = Duration::from_millis(1_500);
/// The largest page in bytes: a thousand journal entries of the largest baskets.
const LARGEST_PAGE: usize = 256 * 1024 * 1024;

/// A client of one listener of one service.
#[derive(Debug, Clone)]
pub struct Client {
    stack: ClientStack<HyperTransport>,
    base: String,
    token: Option<Secret>,
}

impl Client {
    /// Creates a client. `name` stands for the listener in errors and events; `base` is its URL.
    pub fn new(name: &str, base: &str, token: Option<&Secret>) -> anyhow::Result<Self> {
        let config = ClientConfig::new(name).total_timeout(TOTAL).attempt_timeout(ATTEMPT);
        Self::of(config, &TransportConfig::default(), base, token)
    }

    /// Creates a client for an interactive command's reads. [`READS_WITHIN`] bounds a read with its connection and
    /// retries. Pages of a journal may be large.
    pub fn for_reads(name: &str, base: &str, token: Option<&Secret>) -> anyhow::Result<Self> {
        let config = ClientConfig::new(name).total_timeout(READS_WITHIN).attempt_timeout(READS_WITHIN);
        let transport = TransportConfig::default().max_body(LARGEST_PAGE);
        Self::of(config, &transport, base, token)
    }

    /// Creates a client for whole feeds, read page by page. The pages are large.
    pub fn for_feeds(name: &str, base: &str, token: &Secret) -> anyhow::Result<Self> {
        let config = ClientConfig::new(name).total_timeout(TOTAL).attempt_timeout(ATTEMPT);
        let transport = TransportConfig::default().max_body(LARGEST_PAGE);
        Self::of(config, &transport, base, Some(token))
    }

    fn of(
        config: ClientConfig,
        transport: &TransportConfig,
        base: &str,
        token: Option<&Secret>,
    ) -> anyhow::Result<Self> {
        let stack = stack(config, HyperTransport::new(transport))?;
        Ok(Self { stack, base: base.to_owned(), token: token.cloned() })
    }

    /// Creates a client for many requests at once, of customers who wait `patience` for an answer.
    pub fn for_customers(name: &str, base: &str, token: &Secret, patience: Duration) -> anyhow::Result<Self> {
        let config = ClientConfig::new(name)
            .total_timeout(patience)
            .attempt_timeout(patience)
            .max_in_flight(4_096)
            // The replay must meet a slow service, so a slow call does not open the breaker.
            .breaker(BreakerConfig::default().slow_call(2 * patience));
        let transport = TransportConfig::default().max_idle(256);
        Self::of(config, &transport, base, Some(token))
    }

    /// Sends one request. The stack repeats a POST only under an idempotency key, because only then is a repeat safe.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Bytes,
    ) -> Result<Response<Bytes>, CallError> {
        let unsendable = |reason| CallError::InvalidRequest { reason };
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(token) = &self.token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| unsendable("the token cannot stand in a header"))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(key) = key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request =
            request.body(Full::new(body)).map_err(|_| unsendable("its URL or key cannot be sent"))?;
        self.stack.clone().oneshot(request).await
    }

    /// Sends a request without a key and returns the answer, refusals included.
    ///
    /// # Errors
    /// No answer came.
    pub async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Response<Bytes>> {
        self.call(method, path, None, body).await.with_context(|| format!("{}{path}", self.base))
    }

    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let reply = self.send(Method::GET, path, Bytes::new()).await?;
        if reply.status() != StatusCode::OK {
            bail!("{}{path}: {}", self.base, refusal(&reply));
        }
        serde_json::from_slice(reply.body())
            .with_context(|| format!("{}{path}: not the reply expected", self.base))
    }
}

/// The text of a refusal: title and detail of its problem document, or else its status.
pub fn refusal(reply: &Response<Bytes>) -> String {
    match serde_json::from_slice::<Problem>(reply.body()) {
        Ok(Problem { title, detail: Some(detail), .. }) => format!("{title}: {detail}"),
        Ok(Problem { title, .. }) => title,
        Err(_not_a_problem) => reply.status().to_string(),
    }
}
