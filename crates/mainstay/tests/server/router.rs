//! The server stack as services use it: a layer on an axum router.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::MatchedPath;
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::stream;
use http::{Request, StatusCode};
use mainstay::RequestContext;
use mainstay::server::{LogFields, ServerConfig, stack};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::support::Recorder;

fn config() -> ServerConfig {
    ServerConfig::default()
        .route(|head| head.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned().into()))
}

async fn whoami(
    Extension(context): Extension<RequestContext>,
    Extension(log): Extension<LogFields>,
) -> String {
    log.set("principal", "client-1");
    context.correlation_id.to_string()
}

#[tokio::test]
async fn a_router_answers_through_the_stack() {
    let app = Router::new()
        .route("/whoami/{id}", get(whoami))
        .route("/panic", get(|| async { panic!("boom") as () }))
        .layer(stack(config()).unwrap());

    let request = Request::get("/whoami/7").header("x-correlation-id", "abc-1").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-correlation-id"], "abc-1");
    assert_eq!(to_bytes(response.into_body(), 100).await.unwrap(), "abc-1");

    let request = Request::get("/panic").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.headers()["x-outcome"], "unknown");
    assert!(response.headers().contains_key("x-correlation-id"));

    let request = Request::get("/nowhere").body(Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(response.headers().contains_key("x-correlation-id"));
}

/// `Transfer-Encoding: chunked` announces no length, so the limit cannot rely on the announced length alone.
#[tokio::test]
async fn a_body_of_unannounced_length_is_cut_off_at_the_limit() {
    let config = config().max_body(Some(8));
    let read = |body: Bytes| async move { body.len().to_string() };
    let app = Router::new().route("/", post(read)).layer(stack(config).unwrap());
    let send = |chunks: &'static [&'static str]| {
        let body =
            Body::from_stream(stream::iter(chunks.iter().map(|chunk| Ok::<_, std::io::Error>(*chunk))));
        app.clone().oneshot(Request::post("/").body(body).unwrap())
    };
    let reply = send(&["four", "four"]).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    assert_eq!(to_bytes(reply.into_body(), 100).await.unwrap(), "8");
    assert_eq!(send(&["four", "four", "!"]).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
}

/// A real server stops polling a body as soon as it has sent the announced bytes, and drops it unread for HEAD. In
/// neither case has a caller left.
#[tokio::test]
async fn over_a_socket_complete_replies_are_complete_and_cut_ones_are_cancelled() {
    let recorder = Recorder::new();
    let endless = || async {
        Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from("tick\n"))))
    };
    let stack = stack(config()).unwrap();
    let (drain, limiter) = (stack.drain(), stack.limiter());
    let app = Router::new()
        .route("/text", get(|| async { "a text" }))
        .route("/empty", get(|| async { StatusCode::NO_CONTENT }))
        .route(
            "/chunks",
            get(|| async { Body::from_stream(stream::iter([Ok::<_, std::io::Error>("one"), Ok("two")])) }),
        )
        .route("/endless", get(endless))
        .route("/hang", get(std::future::pending::<()>))
        .layer(stack);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    for request in ["GET /text", "HEAD /text", "GET /empty", "GET /chunks"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let text = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(text.as_bytes()).await.unwrap();
        let mut reply = String::new();
        socket.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 20") && reply.contains("x-correlation-id"), "{request}: {reply}");
    }
    for request in ["GET /endless", "GET /hang"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        while drain.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        drop(socket);
        tokio::time::timeout(Duration::from_secs(5), drain.drained())
            .await
            .expect("the server saw the caller leave");
    }
    server.abort();
    let lines: Vec<_> = recorder
        .lines()
        .into_iter()
        .map(|line| {
            let [route, outcome] =
                ["http.route", "outcome"].map(|name| line[name].as_str().unwrap().to_owned());
            format!("{route} {outcome} {}", line["http.response.body.size"])
        })
        .collect();
    assert_eq!(lines[..4], ["/text success 6", "/text success 0", "/empty success 0", "/chunks success 6"]);
    assert!(lines[4].starts_with("/endless cancelled "), "{}", lines[4]);
    assert_eq!(lines[5], "/hang cancelled 0");
    assert_eq!(limiter.snapshot().in_flight, 0);
}

#[tokio::test]
async fn a_body_that_fails_half_way_is_an_unknown_outcome() {
    let recorder = Recorder::new();
    let broken = || async {
        Body::from_stream(stream::iter([Ok("half"), Err(std::io::Error::other("the disk failed"))]))
    };
    let app = Router::new().route("/broken", get(broken)).layer(stack(config()).unwrap());
    let response = app.oneshot(Request::get("/broken").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(to_bytes(response.into_body(), 100).await.is_err());
    assert_eq!((&recorder.lines()[0]["outcome"], recorder.lines().len()), (&"unknown".into(), 1));
}
