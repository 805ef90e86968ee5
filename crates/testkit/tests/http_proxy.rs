//! Every fault of the HTTP proxy, as the client and as the service see it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use testkit::proxy::{Ending, Fault, HttpProxy, Point, When};
use testkit::{eventually, eventually_now};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(5);
/// Time without an answer after which the service is taken to be silent. On loopback an answer is much faster.
const SILENCE: Duration = Duration::from_millis(100);

/// A service that counts requests and answers each with its number and the request's path.
struct Service {
    address: SocketAddr,
    received: Arc<AtomicU32>,
    gone: Arc<AtomicU32>,
}

impl Service {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback works");
        let address = listener.local_addr().expect("loopback works");
        let (received, gone) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (counted, lost) = (received.clone(), gone.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (counted, lost) = (counted.clone(), lost.clone());
                tokio::spawn(async move {
                    let _ended = answer(stream, &counted).await;
                    lost.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, received, gone }
    }

    fn received(&self) -> u32 {
        self.received.load(Ordering::SeqCst)
    }
}

/// Serves a connection. A request for `/slow` is never answered, and a request for `/last` closes the connection.
async fn answer(stream: TcpStream, counted: &AtomicU32) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await?;
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if header == "\r\n" {
                break;
            }
        }
        stream.read_exact(&mut vec![0; length]).await?;
        let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
        if line.contains("/slow") {
            // This ends only when the client closes the connection.
            stream.read_u8().await?;
        }
        let body = format!("{number} {}", line.split(' ').nth(1).unwrap_or_default());
        let last = if line.contains("/last") { "connection: close\r\n" } else { "" };
        let reply = format!("HTTP/1.1 200 OK\r\n{last}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(reply.as_bytes()).await?;
        if !last.is_empty() {
            return Ok(());
        }
    }
}

/// A client connection that reads until it has a complete reply or the connection ends.
struct Client(TcpStream);

impl Client {
    async fn connect(proxy: &HttpProxy) -> Self {
        Self(TcpStream::connect(proxy.address()).await.expect("loopback works"))
    }

    async fn post(&mut self, path: &str) -> io::Result<String> {
        self.send(path).await?;
        self.read().await
    }

    async fn send(&mut self, path: &str) -> io::Result<()> {
        let request = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi");
        self.0.write_all(request.as_bytes()).await
    }

    /// The body of the reply, or the received part of the reply if the connection closed early.
    async fn read(&mut self) -> io::Result<String> {
        let mut all = Vec::new();
        loop {
            let read = self.0.read_buf(&mut all).await?;
            let text = String::from_utf8_lossy(&all).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                if read == 0 {
                    return Ok(text);
                }
                continue;
            };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if read == 0 || length.is_some_and(|length| length == body.len().to_string()) {
                return Ok(body.to_owned());
            }
        }
    }
}

async fn pair() -> (Service, HttpProxy) {
    let service = Service::start().await;
    let proxy = HttpProxy::start(service.address).await.expect("loopback works");
    (service, proxy)
}

fn kind(result: io::Result<String>) -> ErrorKind {
    result.expect_err("the connection should have been reset").kind()
}

#[tokio::test]
async fn a_healthy_proxy_forwards_all_requests_of_a_connection() {
    let (service, proxy) = pair().await;
    let mut client = Client::connect(&proxy).await;
    for number in 1..=3 {
        assert_eq!(client.post("/a").await.unwrap(), format!("{number} /a"));
    }
    let counts = proxy.counts();
    assert_eq!((counts.connections, counts.requests, counts.delivered, counts.answered), (1, 3, 3, 3));
    assert_eq!((service.received(), counts.faults), (3, 0));
}

#[tokio::test]
async fn a_reply_that_closes_the_connection_arrives_whole() {
    let (_service, proxy) = pair().await;
    let mut client = Client::connect(&proxy).await;
    assert_eq!(client.post("/last").await.unwrap(), "1 /last");
    assert_eq!(client.read().await.unwrap(), "", "the connection is closed after the reply");
}

#[tokio::test]
async fn a_lost_request_does_not_reach_the_service() {
    let (service, proxy) = pair().await;
    proxy.script(When::next("/a"), Fault::LoseRequest(Ending::Reset));
    assert_eq!(kind(Client::connect(&proxy).await.post("/a").await), ErrorKind::ConnectionReset);
    proxy.script(When::next("/a"), Fault::LoseRequest(Ending::Close));
    assert_eq!(Client::connect(&proxy).await.post("/a").await.unwrap(), "");
    proxy.script(When::next("/a"), Fault::LoseRequest(Ending::Hang));
    assert!(timeout(SILENCE, Client::connect(&proxy).await.post("/a")).await.is_err());
    assert_eq!((service.received(), proxy.counts().faults, proxy.counts().delivered), (0, 3, 0));
}

#[tokio::test]
async fn a_reply_is_lost_after_the_request_was_executed() {
    let (service, proxy) = pair().await;
    proxy.script(When::next("/a"), Fault::LoseReply(Ending::Reset));
    assert_eq!(kind(Client::connect(&proxy).await.post("/a").await), ErrorKind::ConnectionReset);
    proxy.script(When::next("/a"), Fault::LoseReply(Ending::Close));
    assert_eq!(Client::connect(&proxy).await.post("/a").await.unwrap(), "");
    proxy.script(When::next("/a"), Fault::LoseReply(Ending::Hang));
    assert!(timeout(SILENCE, Client::connect(&proxy).await.post("/a")).await.is_err());
    assert_eq!((service.received(), proxy.counts().answered), (3, 0));
    let last = &proxy.exchanges()[2];
    assert_eq!((last.fault, last.delivered, last.answered), (Some("lose-reply"), 1, false));
    assert_eq!(last.replies[0].body(), b"3 /a");
}

#[tokio::test]
async fn a_cut_reply_is_incomplete() {
    let (service, proxy) = pair().await;
    proxy.script(When::next("/a"), Fault::CutReply { after: 12, ending: Ending::Close });
    assert_eq!(Client::connect(&proxy).await.post("/a").await.unwrap(), "HTTP/1.1 200");
    proxy.script(When::next("/a"), Fault::CutReply { after: 1_000, ending: Ending::Close });
    assert_eq!(
        Client::connect(&proxy).await.post("/a").await.unwrap(),
        "2 /",
        "at least one byte is missing"
    );
    proxy.script(When::next("/a"), Fault::CutReply { after: 12, ending: Ending::Reset });
    assert_eq!(kind(Client::connect(&proxy).await.post("/a").await), ErrorKind::ConnectionReset);
    assert_eq!(service.received(), 3);
}

#[tokio::test]
async fn a_reply_is_replaced_with_or_without_executing_the_request() {
    let (service, proxy) = pair().await;
    proxy.script(When::next("/a"), Fault::ReplaceReply(Fault::nonsense(200)));
    assert_eq!(Client::connect(&proxy).await.post("/a").await.unwrap(), "<html>%%%");
    assert_eq!(service.received(), 1);
    proxy.script(When::next("/a"), Fault::Answer(b"\x00\xffnot http at all".to_vec()));
    assert!(Client::connect(&proxy).await.post("/a").await.unwrap().contains("not http at all"));
    assert_eq!(service.received(), 1);
}

#[tokio::test]
async fn a_request_is_delivered_twice() {
    let (service, proxy) = pair().await;
    proxy.script(When::next("/a"), Fault::Duplicate { at_once: false });
    let mut client = Client::connect(&proxy).await;
    assert_eq!(client.post("/a").await.unwrap(), "1 /a");
    assert_eq!(service.received(), 2);
    proxy.script(When::next("/a"), Fault::Duplicate { at_once: true });
    client.post("/a").await.unwrap();
    assert_eq!((service.received(), proxy.counts().delivered), (4, 4));
    assert_eq!(proxy.exchanges()[1].replies.len(), 2);
}

#[tokio::test]
async fn a_delay_applies_to_the_request_and_to_the_reply() {
    let (_service, proxy) = pair().await;
    let each = Duration::from_millis(60);
    proxy.script(When::next("/a"), Fault::Delay { request: each, reply: each });
    let started = Instant::now();
    Client::connect(&proxy).await.post("/a").await.unwrap();
    assert!(started.elapsed() >= each * 2);
}

#[tokio::test]
async fn a_held_request_is_overtaken_and_arrives_after_its_client_has_disconnected() {
    let (service, proxy) = pair().await;
    proxy.script(When::next("/reserve"), Fault::Hold(Point::Request));
    let mut client = Client::connect(&proxy).await;
    client.send("/reserve").await.unwrap();
    let held = eventually_now("the request is held", SOON, || proxy.held().pop()).await;
    drop(client);
    assert_eq!(Client::connect(&proxy).await.post("/release").await.unwrap(), "1 /release");
    assert_eq!(service.received(), 1);
    proxy.release(held.id);
    eventually_now("the held request arrives", SOON, || service.received() == 2).await;
    eventually_now("the held request is answered", SOON, || proxy.exchanges()[held.id].replies.pop()).await;
}

#[tokio::test]
async fn held_replies_arrive_in_the_order_of_their_release() {
    let (service, proxy) = pair().await;
    proxy.script(When::every("/"), Fault::Hold(Point::Reply));
    let (mut first, mut second) = (Client::connect(&proxy).await, Client::connect(&proxy).await);
    first.send("/first").await.unwrap();
    eventually_now("the first is held", SOON, || proxy.held().len() == 1).await;
    second.send("/second").await.unwrap();
    eventually_now("both are held", SOON, || proxy.held().len() == 2).await;
    assert_eq!(service.received(), 2);
    proxy.release(proxy.held()[1].id);
    assert_eq!(second.read().await.unwrap(), "2 /second");
    proxy.heal();
    assert_eq!(first.read().await.unwrap(), "1 /first");
}

#[tokio::test]
async fn an_old_request_is_delivered_again() {
    let (service, proxy) = pair().await;
    Client::connect(&proxy).await.post("/a").await.unwrap();
    let reply = proxy.resend(0).await.unwrap();
    assert_eq!((reply.status(), reply.body()), (Some(200), &b"2 /a"[..]));
    assert_eq!((service.received(), proxy.exchanges()[0].delivered), (2, 2));
}

#[tokio::test]
async fn a_script_limits_and_skips_requests_and_the_first_match_applies() {
    let (_service, proxy) = pair().await;
    proxy.script(When::every("/a").after(1).times(2), Fault::Answer(Fault::nonsense(500)));
    proxy.script(When::every("/a").after(2), Fault::Answer(Fault::nonsense(503)));
    for _ in 0..5 {
        Client::connect(&proxy).await.post("/a").await.unwrap();
    }
    let faults: Vec<_> = proxy.exchanges().iter().map(|exchange| exchange.fault.is_some()).collect();
    assert_eq!(faults, [false, true, true, false, true]);
    proxy.heal();
    assert_eq!(Client::connect(&proxy).await.post("/a").await.unwrap(), "3 /a");
}

#[tokio::test]
async fn a_closed_port_refuses_connections_and_serves_again_after_it_is_opened() {
    let (_service, proxy) = pair().await;
    let mut kept = Client::connect(&proxy).await;
    kept.post("/a").await.unwrap();
    proxy.close().await;
    assert_eq!(TcpStream::connect(proxy.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(kind(kept.read().await), ErrorKind::ConnectionReset);
    proxy.open().await;
    assert_eq!(Client::connect(&proxy).await.post("/a").await.unwrap(), "2 /a");
}

#[tokio::test]
async fn a_service_sees_that_its_client_has_disconnected() {
    let (service, proxy) = pair().await;
    let mut client = Client::connect(&proxy).await;
    client.send("/slow").await.unwrap();
    eventually_now("the request arrives", SOON, || service.received() == 1).await;
    drop(client);
    eventually_now("the service's connection ends", SOON, || service.gone.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn an_unreachable_service_gives_a_reset_and_a_moved_service_is_found() {
    let (service, proxy) = pair().await;
    let unused = SocketAddr::from(([127, 0, 0, 1], local::ports::free().unwrap()));
    proxy.forward_to(unused);
    assert_eq!(kind(Client::connect(&proxy).await.post("/a").await), ErrorKind::ConnectionReset);
    proxy.forward_to(service.address);
    let body =
        eventually("the service is found", SOON, || async { Client::connect(&proxy).await.post("/a").await });
    assert_eq!(body.await, "1 /a");
}
