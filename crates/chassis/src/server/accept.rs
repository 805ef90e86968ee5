//! The accept loop. It bounds the connections, and waits while the machine has no free descriptor.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::CONNECTION;
use http::{HeaderValue, Request, StatusCode};
use mainstay::problem::Effect;
use mainstay::server::context::ContextLayer;
use mainstay::{Problem, RequestContext};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tower::{BoxError, Layer, Service, service_fn};

use super::connection::{self, Ends};
use super::limits::Limits;
use super::listen::Listener;

/// A service behind a listener: an axum `Router`, or layers around one. An error closes the connection without a reply.
pub trait Serves:
    Service<Request<Body>, Response = Response, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static
{
}

impl<S> Serves for S where
    S: Service<Request<Body>, Response = Response, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// Accepts connections until draining begins. Each connection is a task of `connections`.
pub(super) async fn accept_until<S: Serves>(
    name: &'static str,
    listener: Listener,
    service: S,
    limits: Limits,
    ends: Ends,
    connections: TaskTracker,
) {
    let permits = Permits {
        serving: Arc::new(Semaphore::new(limits.connections)),
        rejecting: Arc::new(Semaphore::new(limits.rejected)),
    };
    let limits = Arc::new(limits);
    start_metrics(name);
    loop {
        let accepted = tokio::select! {
            biased;
            () = ends.draining.cancelled() => return,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, peer, admission) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(name, &error).await;
                continue;
            }
        };
        let (service, limits, ends) = (service.clone(), limits.clone(), ends.clone());
        connections.spawn(async move {
            match admission {
                Admission::Serve(_permit) => {
                    let _open = Open::count(name);
                    connection::serve(stream, peer, service, &limits, ends).await;
                }
                Admission::Reject(_permit) => {
                    refused(name).increment(1);
                    let full = ContextLayer::default().layer(service_fn(full));
                    connection::serve(stream, peer, full, &limits, ends).await;
                }
            }
        });
    }
}

/// Permits for the connections of one listener.
struct Permits {
    serving: Arc<Semaphore>,
    rejecting: Arc<Semaphore>,
}

/// Decision about a connection. The permit is held until the connection ends.
enum Admission {
    Serve(OwnedSemaphorePermit),
    /// Each request is answered 503.
    Reject(OwnedSemaphorePermit),
}

/// Waits for a permit, then for a connection. A rejected connection needs a permit too, so that a flood of them stays in
/// the kernel's queue.
async fn accept(listener: &Listener, permits: &Permits) -> io::Result<(TcpStream, SocketAddr, Admission)> {
    let closed = |_| io::Error::other("the listener's semaphore is closed");
    let admission = tokio::select! {
        biased;
        permit = permits.serving.clone().acquire_owned() => Admission::Serve(permit.map_err(closed)?),
        permit = permits.rejecting.clone().acquire_owned() => Admission::Reject(permit.map_err(closed)?),
    };
    let (stream, peer) = listener.socket.accept().await?;
    // A served connection may have ended while no new one arrived.
    let admission = match (admission, permits.serving.clone().try_acquire_owned()) {
        (Admission::Reject(_), Ok(permit)) => Admission::Serve(permit),
        (admission, _) => admission,
    };
    Ok((stream, peer, admission))
}

async fn full(request: Request<Body>) -> Result<Response, Infallible> {
    let mut problem =
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Too many connections are open")
            .outcome(Effect::NotExecuted)
            .retry_after(1);
    if let Some(context) = request.extensions().get::<RequestContext>() {
        problem = problem.correlated(&context.correlation_id);
    }
    let mut response: Response = problem.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

/// Pauses after an error that lasts for a while (no descriptors, no memory): a new try at once would only use the
/// processor. A connection that ended in the queue needs no pause.
async fn pause_after(name: &'static str, error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    tracing::error!(listener = name, %error, "connection not accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Starts the listener's series at zero.
fn start_metrics(name: &'static str) {
    metrics::describe_gauge!(OPEN, "Connections that are served, by listener");
    metrics::describe_counter!(
        REFUSED,
        "Connections that were answered with 503, because too many were open"
    );
    metrics::gauge!(OPEN, "listener" => name).increment(0.0);
    refused(name).increment(0);
}

const OPEN: &str = "mainstay_server_connections";
const REFUSED: &str = "mainstay_server_connections_refused_total";

fn refused(name: &'static str) -> metrics::Counter {
    metrics::counter!(REFUSED, "listener" => name)
}

struct Open(metrics::Gauge);

impl Open {
    fn count(name: &'static str) -> Self {
        let gauge = metrics::gauge!(OPEN, "listener" => name);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::bind;

    #[tokio::test]
    async fn a_permit_that_became_free_before_a_connection_came_is_used() {
        let listener = bind("LISTEN_ADDR", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let permits =
            Permits { serving: Arc::new(Semaphore::new(0)), rejecting: Arc::new(Semaphore::new(1)) };
        let mut accepting = std::pin::pin!(accept(&listener, &permits));
        let accepted = tokio::time::timeout(Duration::from_millis(50), accepting.as_mut()).await;
        assert!(accepted.is_err());
        permits.serving.add_permits(1);
        let _client = TcpStream::connect(listener.address()).await.unwrap();
        let (_, _, admission) =
            tokio::time::timeout(Duration::from_secs(20), accepting).await.unwrap().unwrap();
        assert!(matches!(admission, Admission::Serve(_)));
    }
}
