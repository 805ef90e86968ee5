//! Every fault of the TCP proxy, in front of an echo server.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use testkit::eventually_now;
use testkit::proxy::{Cut, Direction, Flow, TcpProxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(5);
/// Time without an answer after which the server is taken to be silent. On loopback an answer is much faster.
const SILENCE: Duration = Duration::from_millis(100);

/// A server that sends back the bytes that it gets and counts them, and a proxy in front of it.
async fn echo() -> (Arc<AtomicUsize>, TcpProxy) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback works");
    let proxy =
        TcpProxy::start(listener.local_addr().expect("loopback works")).await.expect("loopback works");
    let received = Arc::new(AtomicUsize::new(0));
    let counted = received.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 1_024];
                while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                    counted.fetch_add(read, Ordering::SeqCst);
                    if stream.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (received, proxy)
}

async fn connect(proxy: &TcpProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.expect("loopback works")
}

async fn echo_text(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    let mut bytes = vec![0; text.len()];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn a_healthy_proxy_forwards_and_counts_bytes_and_an_orderly_close() {
    let (received, proxy) = echo().await;
    let mut client = connect(&proxy).await;
    assert_eq!(echo_text(&mut client, "hello").await.unwrap(), "hello");
    let counts = proxy.counts();
    assert_eq!((counts.connections, counts.up, counts.down, received.load(Ordering::SeqCst)), (1, 5, 5, 5));
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn latency_delays_bytes_in_both_directions() {
    let (_got, proxy) = echo().await;
    let each = Duration::from_millis(40);
    let mut client = connect(&proxy).await;
    proxy.flow(Direction::Up, Flow::Pass(each));
    proxy.flow(Direction::Down, Flow::Pass(each));
    let started = Instant::now();
    echo_text(&mut client, "hello").await.unwrap();
    assert!(started.elapsed() >= each * 2);
}

#[tokio::test]
async fn a_frozen_network_delivers_its_bytes_after_it_heals() {
    let (received, proxy) = echo().await;
    let mut client = connect(&proxy).await;
    echo_text(&mut client, "x").await.unwrap();
    proxy.flow(Direction::Up, Flow::Freeze);
    assert!(timeout(SILENCE, echo_text(&mut client, "late")).await.is_err());
    assert_eq!(received.load(Ordering::SeqCst), 1);
    proxy.heal().await;
    let mut bytes = [0; 4];
    client.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"late");
}

#[tokio::test]
async fn a_black_hole_loses_one_direction_and_the_connection_stays_silent() {
    let (received, proxy) = echo().await;
    let mut client = connect(&proxy).await;
    proxy.flow(Direction::Down, Flow::Blackhole);
    assert!(timeout(SILENCE, echo_text(&mut client, "done?")).await.is_err());
    assert_eq!(
        (received.load(Ordering::SeqCst), proxy.counts().swallowed),
        (5, 5),
        "the server received the bytes and the client received no answer"
    );
    proxy.heal().await;
    assert!(timeout(SILENCE, echo_text(&mut client, "again")).await.is_err(), "this connection stays silent");
    assert_eq!(echo_text(&mut connect(&proxy).await, "new").await.unwrap(), "new");
    proxy.cut();
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn chosen_bytes_cut_the_connection_before_delivery_or_before_the_reply() {
    let (received, proxy) = echo().await;
    proxy.cut_on(b"COMMIT", 1, Cut::BeforeDelivery);
    let mut client = connect(&proxy).await;
    assert_eq!(echo_text(&mut client, "COMMIT").await.unwrap(), "COMMIT", "the first COMMIT passes");
    assert_eq!(echo_text(&mut client, "COMMIT").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(
        (received.load(Ordering::SeqCst), proxy.counts().cuts),
        (6, 1),
        "the second COMMIT does not arrive"
    );

    proxy.cut_on(b"COMMIT", 0, Cut::BeforeReply);
    let mut client = connect(&proxy).await;
    assert_eq!(echo_text(&mut client, "BEGIN").await.unwrap(), "BEGIN");
    assert_eq!(echo_text(&mut client, "COMMIT").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(
        (received.load(Ordering::SeqCst), proxy.counts().cuts),
        (17, 2),
        "the COMMIT arrives and is answered"
    );
    assert_eq!(
        echo_text(&mut connect(&proxy).await, "COMMIT").await.unwrap(),
        "COMMIT",
        "the trigger acts once"
    );
}

#[tokio::test]
async fn a_reply_is_cut_after_the_given_number_of_bytes() {
    let (_got, proxy) = echo().await;
    proxy.cut_replies_after(7);
    let mut client = connect(&proxy).await;
    assert_eq!(echo_text(&mut client, "hello").await.unwrap(), "hello");
    client.write_all(b"world").await.unwrap();
    let mut rest = Vec::new();
    assert_eq!(client.read_to_end(&mut rest).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!((rest.as_slice(), proxy.counts().down), (&b"wo"[..], 7));
    assert_eq!(echo_text(&mut connect(&proxy).await, "again").await.unwrap(), "again");
}

#[tokio::test]
async fn a_closed_port_refuses_connections_until_it_is_healed() {
    let (_got, proxy) = echo().await;
    let mut client = connect(&proxy).await;
    echo_text(&mut client, "x").await.unwrap();
    proxy.close().await;
    assert_eq!(TcpStream::connect(proxy.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.heal().await;
    eventually_now("connections are counted", SOON, || proxy.counts().connections == 1).await;
    assert_eq!(echo_text(&mut connect(&proxy).await, "x").await.unwrap(), "x");
}
