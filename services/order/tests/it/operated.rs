//! Tests of the replies to operators and probes.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use chassis::auth::{Principal, Role};
use chassis::ops::router;
use chassis::server::Lifecycle;
use chassis::tasks::Tasks;
use futures_util::FutureExt;
use http::Request;
use journal::Database;
use mainstay::RequestContext;
use order_service::reconcile;
use order_service::startup::migrator;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{PATIENCE, Stage, command};

async fn json_of(router: Router, request: Request<Body>) -> (u16, Value) {
    let reply = router.oneshot(request).await.unwrap();
    let status = reply.status().as_u16();
    (status, serde_json::from_slice(&to_bytes(reply.into_body(), usize::MAX).await.unwrap()).unwrap())
}

/// An operator's request to try all unresolved orders now.
pub(crate) fn reconcile_now() -> Request<Body> {
    let mut request = Request::post("/reconcile").body(Body::empty()).unwrap();
    request.extensions_mut().insert(Principal { name: "an-operator".into(), role: Role::Operator });
    request.extensions_mut().insert(RequestContext::background(PATIENCE));
    request
}

#[tokio::test]
async fn a_reconcile_reports_an_open_breaker_and_the_number_of_waiting_orders() {
    let stage = Stage::new().await;
    for key in ["the-key-of-one-order", "the-key-of-another"] {
        let (placing, _began) = stage.place(command(key, Duration::from_secs(1)));
        assert!(placing.await.is_ok());
    }
    let routes = || reconcile::admin::routes(stage.app.clone(), Tasks::new());
    let breaker = stage.app.breakers.list().remove(0);
    stage.app.breakers.get(&breaker.name).unwrap().force_open();
    let (status, document) = json_of(routes(), reconcile_now()).await;
    assert_eq!(status, 200, "{document}");
    assert_eq!(
        document,
        json!({
            "unresolved": 2, "taken": 0, "moved": 0, "waiting": 0, "overtaken": 0, "failed": 0,
            "breakers": [{"name": breaker.name, "state": "forced-open"}],
        })
    );
    stage.app.breakers.get(&breaker.name).unwrap().force_closed();
    stage.hop.close().await;
    let (_, document) = json_of(routes(), reconcile_now()).await;
    assert_eq!(
        (&document["unresolved"], &document["taken"], &document["waiting"]),
        (&json!(2), &json!(2), &json!(2))
    );
}

#[tokio::test]
async fn a_full_pool_of_the_requests_is_reported_and_does_not_decide_readiness() {
    let stage = Stage::new().await;
    let ready = |own: &Database| {
        let (own, served) = (own.clone(), stage.app.store.database().clone());
        let readiness = move || {
            let (own, served) = (own.clone(), served.clone());
            async move { chassis::schema::conditions(&own, &served, &migrator()).await }
        };
        router(&Lifecycle::new(PATIENCE), readiness, Router::new())
    };
    let probe = || Request::get("/readyz").body(Body::empty()).unwrap();
    let (own, served) = (stage.another_pool(), stage.app.store.database().clone());
    let (status, document) = json_of(ready(&own), probe()).await;
    assert_eq!((status, document["conditions"].as_array().unwrap().len()), (200, 2), "{document}");
    assert_eq!(json_of(ready(&served), probe()).await.0, 200);
    let mut occupied = pin!(stage.occupy());
    assert!(occupied.as_mut().now_or_never().is_none(), "the connection is there and is taken");
    let mut waits = pin!(stage.occupy());
    assert!(waits.as_mut().now_or_never().is_none(), "a request waits for it");
    let (status, document) = json_of(ready(&own), probe()).await;
    let reported = json!({
        "name": "connections", "ok": false, "decides": false,
        "detail": "no connection is free, requests waiting for one: 1",
    });
    assert_eq!((status, &document["conditions"][2]), (200, &reported), "{document}");
    // From here on only clocks are waited for.
    tokio::time::pause();
    let (status, document) = json_of(ready(&served), probe()).await;
    assert_eq!((status, &document["conditions"][0]["name"]), (503, &json!("database")), "{document}");
}
