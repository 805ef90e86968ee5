//! How commands talk to the services: through the same client stack that the services use between them, with
//! its deadlines, retries within a budget, and outcomes that may be unknown.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::Full;
use local::Secret;
use mainstay::client::{ClientConfig, ClientStack, HyperTransport, stack};
use tower::ServiceExt;

/// A person waits; the services' own default is 2 s.
const TOTAL: Duration = Duration::from_secs(10);
const ATTEMPT: Duration = Duration::from_secs(5);

/// A client of one listener of one service.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    stack: ClientStack<HyperTransport>,
    base: String,
    token: Option<Secret>,
}

impl Client {
    /// `name` is what errors and events call the listener; `base` its URL.
    pub(crate) fn new(name: &str, base: &str, token: Option<&Secret>) -> anyhow::Result<Self> {
        let config =
            ClientConfig { total_timeout: TOTAL, attempt_timeout: ATTEMPT, ..ClientConfig::new(name) };
        let stack = stack(config, HyperTransport::default())?;
        Ok(Self { stack, base: base.to_owned(), token: token.cloned() })
    }

    /// Whatever was answered, refusals included; an error when nothing was.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Bytes>> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).context("the request cannot be built")?;
        self.stack.clone().oneshot(request).await.with_context(|| url)
    }
}
