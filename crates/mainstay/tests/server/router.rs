//! The server stack as services use it: a layer on an axum router.

use axum::body::{Body, to_bytes};
use axum::extract::MatchedPath;
use axum::routing::get;
use axum::{Extension, Router};
use http::{Request, StatusCode};
use mainstay::RequestContext;
use mainstay::server::{LogFields, ServerConfig, stack};
use tower::ServiceExt as _;

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
