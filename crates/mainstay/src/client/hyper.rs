//! A transport over hyper-util's pooled client, for HTTP/1.1 without TLS.
//!
//! It reads the whole body, up to a limit, before it answers. A body that is cut or slow is then part of the attempt,
//! its timeout and its verdict. Without that, it would fail after the stack has reported success.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::response::Parts;
use http::{Request, Response};
use http_body_util::combinators::Collect;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pin_project_lite::pin_project;
use tower::Service;

use crate::settings::settings;
use crate::{CallError, Endpoint};

settings! {
    /// Settings of [`HyperTransport`].
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TransportConfig {
        /// Timeout of connecting. Default 300 ms, three times a lost SYN's share of a long-haul round trip. A connect
        /// that is refused or gets no answer is then known not to have been sent, before the attempt timeout makes it an
        /// unknown outcome.
        pub connect_timeout: Duration = Duration::from_millis(300),
        /// Time for which an idle connection is kept. Default 15 s: below the idle timeout of common servers (60 to 75
        /// s), so that this side closes it.
        pub idle_timeout: Duration = Duration::from_secs(15),
        /// Idle connections kept for each endpoint. Default 64 (hyper-util keeps any number).
        pub max_idle: usize = 64,
        /// The largest reply body, in bytes. Default 1 MiB.
        pub max_body: usize = 1024 * 1024,
    }
}

/// Transport that sends requests over pooled connections. Clones share the pool.
#[derive(Debug, Clone)]
pub struct HyperTransport {
    client: Client<HttpConnector, Full<Bytes>>,
    max_body: usize,
}

impl HyperTransport {
    /// A transport with an empty pool. It needs a tokio runtime when it is called, and not when it is built.
    pub fn new(config: &TransportConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(config.connect_timeout));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_secs(15)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(config.max_idle)
            .build(connector);
        Self { client, max_body: config.max_body }
    }
}

impl Default for HyperTransport {
    fn default() -> Self {
        Self::new(&TransportConfig::default())
    }
}

impl Service<Request<Full<Bytes>>> for HyperTransport {
    type Response = Response<Bytes>;
    type Error = CallError;
    type Future = HyperFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let state = match Endpoint::of(request.uri()) {
            Some(endpoint) => State::Sending { endpoint, reply: self.client.request(request) },
            None => State::Invalid,
        };
        HyperFuture { state, max_body: self.max_body }
    }
}

pin_project! {
    /// One exchange. Dropping it closes the connection that it was using, if any.
    #[derive(Debug)]
    pub struct HyperFuture {
        #[pin]
        state: State,
        max_body: usize,
    }
}

pin_project! {
    #[project = StateProj]
    enum State {
        Invalid,
        Sending {
            endpoint: Endpoint,
            #[pin]
            reply: ResponseFuture,
        },
        Reading {
            endpoint: Endpoint,
            head: Option<Parts>,
            #[pin]
            body: Collect<Limited<hyper::body::Incoming>>,
        },
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Invalid => "Invalid",
            Self::Sending { .. } => "Sending",
            Self::Reading { .. } => "Reading",
        })
    }
}

impl Future for HyperFuture {
    type Output = Result<Response<Bytes>, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Invalid => {
                    let reason = "the URI has no host";
                    return Poll::Ready(Err(CallError::InvalidRequest { reason }));
                }
                StateProj::Sending { endpoint, reply } => {
                    let endpoint = endpoint.clone();
                    match ready!(reply.poll(cx)) {
                        Err(error) if error.is_connect() => {
                            return Poll::Ready(Err(CallError::Connect { endpoint, cause: Arc::new(error) }));
                        }
                        Err(error) => {
                            let cause = Arc::new(error);
                            return Poll::Ready(Err(CallError::ConnectionLost { endpoint, cause }));
                        }
                        Ok(response) => {
                            let (head, body) = response.into_parts();
                            let body = Limited::new(body, *this.max_body).collect();
                            this.state.set(State::Reading { endpoint, head: Some(head), body });
                        }
                    }
                }
                StateProj::Reading { endpoint, head, body } => {
                    return Poll::Ready(match ready!(body.poll(cx)) {
                        Ok(body) => {
                            let head = head.take().expect("a future is not polled after it is ready");
                            Ok(Response::from_parts(head, body.to_bytes()))
                        }
                        Err(error) if error.is::<LengthLimitError>() => {
                            Err(CallError::ReplyTooLarge { limit: *this.max_body })
                        }
                        Err(error) => {
                            Err(CallError::ConnectionLost { endpoint: endpoint.clone(), cause: error.into() })
                        }
                    });
                }
            }
        }
    }
}
