//! The assembled client stack: what it sends, what it returns, and in which order its layers act.
#![allow(clippy::unwrap_used)] // helpers of tests may panic
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use mainstay::client::{self, ClientConfig, ClientRequest};
use mainstay::{CallError, Outcome, classify};
use tower::{ServiceExt, service_fn};

fn get() -> ClientRequest {
    Request::get("http://127.0.0.1:8081/v1/items").body(Full::<Bytes>::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_through_every_layer_and_comes_back() {
    let transport = service_fn(|request: ClientRequest| async move {
        assert_eq!(request.headers()["x-attempt"], "1");
        assert_eq!(request.headers()["x-deadline-ms"], "1000");
        Ok::<_, CallError>(Response::new(Bytes::from_static(b"fine")))
    });
    let stack = client::stack(ClientConfig::new("inventory"), transport).unwrap();
    let result = stack.clone().oneshot(get()).await;
    assert_eq!(classify::outcome(&result), Outcome::Success);
    assert_eq!(result.unwrap().body(), "fine");
    assert_eq!(stack.in_flight(), 0);
}
