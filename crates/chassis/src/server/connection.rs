//! One connection, from its first byte to its last.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::header::CONNECTION;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::{BoxError, Service, ServiceExt};

use super::body::TimedBody;
use super::io::{Phase, TimedIo};
use super::limits::Limits;

/// Signals that end a connection.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    /// Each reply from then on closes its connection.
    pub(super) draining: CancellationToken,
    /// Idle connections close, busy ones after their reply. Cancelled before `aborting` or with it.
    pub(super) closing: CancellationToken,
    /// All connections close at once.
    pub(super) aborting: CancellationToken,
}

pub(super) async fn serve<S>(stream: TcpStream, peer: SocketAddr, service: S, limits: &Limits, ends: Ends)
where
    S: Service<Request<Body>, Response = Response, Error: Into<BoxError>, Future: Send> + Clone + Send,
{
    // A reply is written at once; waiting to fill a packet would only delay it. An error here changes nothing.
    let _ = stream.set_nodelay(true);
    let phase = Phase::opening();
    let io = TimedIo::new(stream, phase.clone(), limits.head, limits.write_progress);
    // Each request clones it, and the clone of a token would take a lock.
    let draining = Arc::new(ends.draining);
    let (progress, total) = (limits.body_progress, limits.body_total);
    let handler = service_fn(move |request: Request<Incoming>| {
        phase.request_began();
        let (service, phase, draining) = (service.clone(), phase.clone(), Arc::clone(&draining));
        let mut request = request.map(|body| Body::new(TimedBody::new(body, progress, total)));
        request.extensions_mut().insert(ConnectInfo(peer));
        async move {
            let result = service.oneshot(request).await;
            phase.request_ended();
            result.map(|mut response| {
                if draining.is_cancelled() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            })
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            // See `io`: hyper runs this while a connection waits for its next request.
            .header_read_timeout(limits.idle)
            .max_headers(limits.header_fields)
            .max_header_size(limits.head_bytes)
            .serve_connection(TokioIo::new(io), handler)
    );
    // `aborting` cancels `closing` too, so that each wake-up of the connection polls one token and not two.
    let ended = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        () = ends.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection => result,
                () = ends.aborting.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}
