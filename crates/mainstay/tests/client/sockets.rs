//! The hyper transport against real sockets on loopback: which failures had no effect, and which are unknown.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use mainstay::breaker::BreakerState;
use mainstay::client::{self, ClientConfig, ClientRequest, HyperTransport, TransportConfig};
use mainstay::retry::RetryConfig;
use mainstay::{CallError, Outcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::support::Called;

/// A server that reads one request on each connection, sends these bytes, and closes the connection.
async fn server(reply: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                read_head(&mut socket).await;
                socket.write_all(reply).await.unwrap();
                socket.shutdown().await.ok();
            });
        }
    });
    address
}

async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn get(address: SocketAddr) -> ClientRequest {
    Request::get(format!("http://{address}/v1/items")).body(Full::default()).unwrap()
}

fn one_attempt() -> ClientConfig {
    let retry = RetryConfig::default().max_attempts(1);
    ClientConfig::new("inventory").retry(retry)
}

async fn ask(address: SocketAddr, transport: TransportConfig) -> Called {
    client::stack(one_attempt(), HyperTransport::new(&transport)).unwrap().oneshot(get(address)).await
}

#[tokio::test]
async fn a_complete_reply_is_returned() {
    let address = server(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine").await;
    let reply = ask(address, TransportConfig::default()).await.unwrap();
    assert_eq!(reply.body(), &Bytes::from("fine"));
}

#[tokio::test]
async fn a_call_without_a_connection_had_no_effect() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = ask(closed, TransportConfig::default()).await.unwrap_err();
    assert!(matches!(error, CallError::Connect { .. }), "{error:?}");
    assert_eq!(error.outcome(), Outcome::FailedKnown);
    assert!(error.to_string().contains("refused"), "the text has the innermost cause: {error}");
}

#[tokio::test]
async fn any_failure_after_the_request_was_sent_is_unknown() {
    let broken: [&'static [u8]; 4] = [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\ncut",
        b"not http at all\r\n\r\n",
    ];
    for bytes in broken {
        let error = ask(server(bytes).await, TransportConfig::default()).await.unwrap_err();
        let text = String::from_utf8_lossy(bytes);
        assert!(matches!(error, CallError::ConnectionLost { .. }), "{text:?}: {error:?}");
        assert_eq!(error.outcome(), Outcome::Unknown, "{text:?}");
    }
}

#[tokio::test]
async fn a_body_larger_than_the_limit_is_not_read() {
    let address = server(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlong").await;
    let error = ask(address, TransportConfig::default().max_body(3)).await.unwrap_err();
    assert!(matches!(error, CallError::ReplyTooLarge { limit: 3 }), "{error:?}");
    assert_eq!(error.outcome(), Outcome::Unknown, "a reply arrived, and its content is not known");
    ask(address, TransportConfig::default().max_body(4)).await.unwrap();
}

/// The head arrives at once and the body never does. If the transport answered with the head, the timeout would not
/// cover the body.
#[tokio::test]
async fn a_slow_body_is_part_of_the_attempt_and_of_its_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let held = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_head(&mut socket).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nslow").await.unwrap();
        socket.read_u8().await
    });
    let attempt_timeout = Duration::from_millis(100);
    let config = one_attempt().attempt_timeout(attempt_timeout);
    let stack = client::stack(config, HyperTransport::default()).unwrap();
    let error = stack.clone().oneshot(get(address)).await.unwrap_err();
    assert!(matches!(error, CallError::AttemptTimedOut { .. }), "{error:?}");
    assert_eq!(stack.breakers().get(&address.to_string()).unwrap().snapshot().failures, 1);
    assert!(held.await.unwrap().is_err(), "a timed-out attempt closes its connection");
}

#[tokio::test]
async fn the_request_arrives_with_its_headers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let head = read_head(&mut socket).await;
        socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        head
    });
    assert_eq!(ask(address, TransportConfig::default()).await.unwrap().status(), 204);
    let head = seen.await.unwrap().to_lowercase();
    for header in ["x-attempt: 1\r\n", "x-priority: default\r\n", "traceparent: 00-", "x-correlation-id: "] {
        assert!(head.contains(header), "{header:?} in {head:?}");
    }
}

#[tokio::test]
async fn a_dead_instance_opens_its_own_breaker_only() {
    let healthy = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let stack = client::stack(one_attempt(), HyperTransport::default()).unwrap();
    for _ in 0..6 {
        stack.clone().oneshot(get(dead)).await.unwrap_err();
        stack.clone().oneshot(get(healthy)).await.unwrap();
    }
    let state = |address: SocketAddr| stack.breakers().get(&address.to_string()).unwrap().state();
    assert_eq!((state(dead), state(healthy)), (BreakerState::Open, BreakerState::Closed));
}
