//! Bodies are read before a permit is taken, on a paused clock: the effect of slow, large, many and broken bodies on
//! other requests.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use http::request::Builder;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use mainstay::server::read_body::{ReadBodyConfig, ReadBodyLayer, ReceivedBody};
use mainstay::server::stack;
use tokio::time::Instant;
use tower::{Layer as _, ServiceExt as _};

use crate::support::{Recorder, config};

type Sent = UnsyncBoxBody<Bytes, io::Error>;
type Answer = Response<Full<Bytes>>;

/// A body of `pieces`, each so many milliseconds after the one before; `None` is a lost connection.
fn pieces(pieces: &[(u64, Option<&'static str>)]) -> Sent {
    let frames = stream::iter(pieces.to_vec()).then(|(ms, piece)| async move {
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        piece
            .map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())))
            .ok_or_else(|| io::Error::other("lost"))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// An endless body with one byte every four seconds.
fn dribble() -> Sent {
    let bytes = stream::repeat(()).then(|()| async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        Ok(Frame::data(Bytes::from_static(b" ")))
    });
    StreamBody::new(bytes).boxed_unsync()
}

fn whole(body: &'static str) -> Sent {
    Full::from(body).map_err(|never| match never {}).boxed_unsync()
}

fn post(who: &str) -> Builder {
    Request::post("/").header("x-who", who)
}

fn reading(max: usize) -> ReadBodyConfig {
    ReadBodyConfig::new(max, |head| head.headers.get("x-who")?.to_str().ok().map(Into::into))
}

/// Answers with the body of its request; a body that fails is 400.
async fn echo<B: Body>(request: Request<ReceivedBody<B>>) -> Result<Answer, Infallible> {
    Ok(match request.into_body().collect().await {
        Ok(body) => Response::new(Full::new(body.to_bytes())),
        Err(_) => Response::builder().status(400).body(Full::default()).unwrap(),
    })
}

async fn text<B: Body<Data = Bytes>>(reply: Response<B>) -> String {
    let body = reply.into_body().collect().await.map_err(|_| ()).unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

/// Status, `X-Outcome` and `Connection` of a reply.
fn status_and_headers<B>(reply: &Response<B>) -> (u16, Option<&str>, Option<&str>) {
    let header = |name: &str| reply.headers().get(name).map(|value| value.to_str().unwrap());
    (reply.status().as_u16(), header("x-outcome"), header("connection"))
}

#[tokio::test(start_paused = true)]
async fn law_08_slow_bodies_hold_no_permits() {
    let settings = config(2, 0).read_body(Some(reading(1_000)));
    let (stack, began) = (stack(settings).unwrap(), Instant::now());
    let service = stack.layer(tower::service_fn(echo));
    let ask = |request: Request<Sent>| service.clone().oneshot(request);
    let slow = || post("slow").header("x-deadline-ms", 30_000).body(dribble()).unwrap();
    let slow: Vec<_> = (0..50).map(|_| tokio::spawn(ask(slow()))).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((stack.snapshot().reading, stack.snapshot().limiter.in_flight), (50, 0));
    let get = ask(Request::get("/").body(whole("")).unwrap()).await.unwrap();
    assert_eq!(get.status(), StatusCode::OK);
    let other = ask(post("other").body(whole("an order")).unwrap()).await.unwrap();
    assert_eq!(text(other).await, "an order");
    for reply in join_all(slow).await {
        let reply = reply.unwrap().unwrap();
        assert_eq!(status_and_headers(&reply), (408, Some("not-executed"), Some("close")));
        assert!(text(reply).await.contains(r#""retryable":true"#));
    }
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    assert_eq!(stack.snapshot().reading, 0);
}

#[tokio::test(start_paused = true)]
async fn reading_a_body_ends_at_the_deadline() {
    let service = ReadBodyLayer::new(Some(reading(1_000))).layer(tower::service_fn(echo));
    let began = Instant::now();
    let slow = post("a").header("x-deadline-ms", 300).body(dribble()).unwrap();
    let reply: Answer = service.oneshot(slow).await.unwrap();
    assert_eq!((reply.status(), began.elapsed()), (StatusCode::REQUEST_TIMEOUT, Duration::from_millis(300)));
}

#[tokio::test(start_paused = true)]
async fn a_body_in_pieces_arrives_whole() {
    let layer = ReadBodyLayer::new(Some(reading(6)));
    let service = layer.layer(tower::service_fn(|request: Request<ReceivedBody<Sent>>| {
        assert_eq!(request.body().size_hint().exact(), Some(6));
        echo(request)
    }));
    for body in
        [pieces(&[(0, Some("abcdef"))]), pieces(&[(5, Some("ab")), (0, Some("cd")), (900, Some("ef"))])]
    {
        let reply: Answer = service.clone().oneshot(post("a").body(body).unwrap()).await.unwrap();
        assert_eq!(text(reply).await, "abcdef");
    }
    assert_eq!(layer.reading(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_principal_reads_at_most_its_share_of_bodies() {
    let recorder = Recorder::new();
    let config = reading(1_000).at_once(5).at_once_each(3);
    let layer = ReadBodyLayer::new(Some(config));
    let service = layer.layer(tower::service_fn(echo));
    let ask = |who: &str, body: Sent| {
        let call = service.clone().oneshot(post(who).body(body).unwrap());
        tokio::spawn(async move { call.await.unwrap() as Answer })
    };
    let slow: Vec<_> = (0..3).map(|_| ask("a", dribble())).collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let refused = ask("a", dribble()).await.unwrap();
    assert_eq!(status_and_headers(&refused), (429, Some("not-executed"), Some("close")));
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(text(ask("b", pieces(&[(50, Some("b"))])).await.unwrap()).await, "b");
    let more: Vec<_> = (0..2).map(|_| ask("b", dribble())).collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let refused = ask("c", dribble()).await.unwrap();
    assert_eq!(status_and_headers(&refused), (503, Some("not-executed"), Some("close")));
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(text(ask("a", whole("complete body")).await.unwrap()).await, "complete body");
    drop(join_all(slow.into_iter().chain(more)).await);
    assert_eq!(text(ask("c", pieces(&[(50, Some("c"))])).await.unwrap()).await, "c");
    let metrics = recorder.metrics();
    let shed = |reason| metrics[&format!("mainstay_server_shed_total{{reason={reason}}}")][0];
    assert_eq!((shed("body-share"), shed("bodies-full"), shed("body-timeout")), (1.0, 1.0, 5.0));
    assert_eq!(metrics["mainstay_server_bodies_reading"], [0.0]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_returns_its_permit_to_read() {
    let layer = ReadBodyLayer::new(Some(reading(1_000).at_once_each(1)));
    let service = layer.layer(tower::service_fn(echo));
    for _ in 0..3 {
        let call = service.clone().oneshot(post("a").body(dribble()).unwrap());
        assert!(tokio::time::timeout(Duration::from_millis(10), call).await.is_err());
        assert_eq!(layer.reading(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_of_an_unknown_caller_is_not_read() {
    let service = ReadBodyLayer::new(Some(reading(1_000))).layer(tower::service_fn(
        |request: Request<ReceivedBody<Sent>>| async move {
            drop(request);
            Ok::<_, Infallible>(Response::builder().status(401).body(Full::<Bytes>::default()).unwrap())
        },
    ));
    let began = Instant::now();
    let reply = service.clone().oneshot(Request::post("/").body(dribble()).unwrap()).await.unwrap();
    assert_eq!((status_and_headers(&reply), began.elapsed()), ((401, None, Some("close")), Duration::ZERO));
    let reply = service.oneshot(Request::get("/").body(whole("")).unwrap()).await.unwrap();
    assert_eq!(status_and_headers(&reply), (401, None, None), "no body is left to read");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_is_413_and_a_small_excess_keeps_the_connection() {
    let service = ReadBodyLayer::new(Some(reading(4))).layer(tower::service_fn(echo));
    let ask = |builder: Builder, body: Sent| {
        let call = service.clone().oneshot(builder.body(body).unwrap());
        async move { call.await.unwrap() as Answer }
    };
    let announced = |bytes: u64| post("a").header("content-length", bytes);
    let refused = ask(post("a"), pieces(&[(0, Some("four")), (10, Some("s"))])).await;
    assert_eq!(status_and_headers(&refused), (413, Some("not-executed"), None));
    let refused = ask(announced(8), whole("too long")).await;
    assert_eq!(status_and_headers(&refused), (413, Some("not-executed"), None));
    let refused = ask(post("a"), pieces(&[(0, Some("sixteen bytes, and more"))])).await;
    assert_eq!(status_and_headers(&refused), (413, Some("not-executed"), Some("close")));
    let began = Instant::now();
    let refused = ask(announced(5).header("expect", "100-continue"), dribble()).await;
    assert_eq!(status_and_headers(&refused), (413, Some("not-executed"), Some("close")));
    assert_eq!(began.elapsed(), Duration::ZERO, "a client that waits for 100 Continue sends no body");
    let refused = ask(announced(1_000_000), dribble()).await;
    assert_eq!(status_and_headers(&refused), (413, Some("not-executed"), Some("close")));
    assert_eq!(began.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_reaches_the_handler_as_a_failure() {
    let layer = ReadBodyLayer::new(Some(reading(1_000)));
    let service = layer.layer(tower::service_fn(echo));
    let broken = post("a").body(pieces(&[(5, Some("half an or")), (5, None)])).unwrap();
    let reply: Answer = service.oneshot(broken).await.unwrap();
    assert_eq!((reply.status(), layer.reading()), (StatusCode::BAD_REQUEST, 0));
}
