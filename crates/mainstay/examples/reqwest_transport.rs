//! The client stack over reqwest. A transport is a tower service whose errors tell whether the request was sent.
//! `cargo run -p mainstay --example reqwest_transport -- http://127.0.0.1:3000/slow/50`

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use mainstay::client::{self, ClientConfig, ClientRequest};
use mainstay::{CallError, Endpoint, classify};
use tower::{ServiceExt as _, service_fn};

async fn send(client: reqwest::Client, request: ClientRequest) -> Result<Response<Bytes>, CallError> {
    let endpoint =
        Endpoint::of(request.uri()).ok_or(CallError::InvalidRequest { reason: "the URI has no host" })?;
    // Before there is a connection nothing was sent; after it, only a reply can show the effect.
    let failed = |error: reqwest::Error| {
        let (endpoint, connecting) = (endpoint.clone(), error.is_connect());
        let cause = Arc::new(error);
        if connecting {
            CallError::Connect { endpoint, cause }
        } else {
            CallError::ConnectionLost { endpoint, cause }
        }
    };
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let request = reqwest::Request::try_from(Request::from_parts(head, body))
        .map_err(|_| CallError::InvalidRequest { reason: "reqwest cannot send it" })?;
    let reply = client.execute(request).await.map_err(failed)?;
    let mut head = Response::new(());
    *head.status_mut() = reply.status();
    *head.headers_mut() = reply.headers().clone();
    // The whole body belongs to the attempt, its timeout and its verdict.
    let body = reply.bytes().await.map_err(failed)?;
    Ok(head.map(|()| body))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let uri = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:3000/slow/50".to_owned());
    // Only the stack retries. A redirect followed here would be a second request, and a failure to connect there
    // shows nothing about the first.
    let redirect = reqwest::redirect::Policy::none();
    let reqwest = reqwest::Client::builder().retry(reqwest::retry::never()).redirect(redirect).build()?;
    let transport = service_fn(move |request| send(reqwest.clone(), request));
    let client = client::stack(ClientConfig::new("example"), transport)?;
    let result = client.oneshot(Request::get(uri).body(Full::default())?).await;
    println!("{}: {result:?}", classify::outcome(&result));
    Ok(())
}
