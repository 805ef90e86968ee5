//! The accept loop: bounded, and patient with a machine that is out of descriptors.

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

/// What serves requests on a listener: an axum `Router`, or anything around one. An error closes the connection
/// without a reply.
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

/// Accepts until draining begins. Connections run on in `connections`.
pub(super) async fn accept_until<S: Serves>(
    name: &'static str,
    listener: Listener,
    service: S,
    limits: Limits,
    ends: Ends,
    connections: TaskTracker,
) {
    let seats = Arc::new(Semaphore::new(limits.connections));
    let standing = Arc::new(Semaphore::new(limits.turned_away));
    let limits = Arc::new(limits);
    loop {
        let accepted = tokio::select! {
            biased;
            () = ends.draining.cancelled() => return,
            accepted = accept(&listener, &seats, &standing) => accepted,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                survive(name, &error).await;
                continue;
            }
        };
        let (service, limits, ends) = (service.clone(), limits.clone(), ends.clone());
        connections.spawn(async move {
            match place {
                Place::Seat(_permit) => {
                    let _open = Open::count(name);
                    connection::serve(stream, peer, service, &limits, ends).await;
                }
                Place::Standing(_permit) => {
                    metrics::counter!("mainstay_server_connections_refused_total", "listener" => name)
                        .increment(1);
                    let full = ContextLayer::default().layer(service_fn(full));
                    connection::serve(stream, peer, full, &limits, ends).await;
                }
            }
        });
    }
}

enum Place {
    Seat(OwnedSemaphorePermit),
    Standing(OwnedSemaphorePermit),
}

/// Takes a connection only when there is a place for it: a seat, or standing room to be told that there is none.
async fn accept(
    listener: &Listener,
    seats: &Arc<Semaphore>,
    standing: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, Place)> {
    let closed = |_| io::Error::other("the listener's places are gone");
    let place = tokio::select! {
        biased;
        seat = seats.clone().acquire_owned() => Place::Seat(seat.map_err(closed)?),
        room = standing.clone().acquire_owned() => Place::Standing(room.map_err(closed)?),
    };
    let (stream, peer) = listener.socket.accept().await?;
    // A seat may have become free while no connection arrived.
    let place = match (place, seats.clone().try_acquire_owned()) {
        (Place::Standing(_), Ok(seat)) => Place::Seat(seat),
        (place, _) => place,
    };
    Ok((stream, peer, place))
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

/// A connection that died in the queue needs no action. Any other error (no descriptors, no memory) lasts for a while,
/// and a new try at once would only use the processor.
async fn survive(name: &'static str, error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    tracing::error!(listener = name, %error, "cannot accept connections");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

struct Open(metrics::Gauge);

impl Open {
    fn count(name: &'static str) -> Self {
        let gauge = metrics::gauge!("mainstay_server_connections", "listener" => name);
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
    async fn a_seat_that_came_free_while_nobody_came_is_taken() {
        let listener = bind("LISTEN_ADDR", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (seats, standing) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1)));
        let mut accepting = std::pin::pin!(accept(&listener, &seats, &standing));
        let accepted = tokio::time::timeout(Duration::from_millis(50), accepting.as_mut()).await;
        assert!(accepted.is_err());
        seats.add_permits(1);
        let _client = TcpStream::connect(listener.address()).await.unwrap();
        let (_, _, place) = tokio::time::timeout(Duration::from_secs(20), accepting).await.unwrap().unwrap();
        assert!(matches!(place, Place::Seat(_)));
    }
}
