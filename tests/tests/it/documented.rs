//! Tests of the order service against its OpenAPI description: every documented answer of every route is given.

use local::Service;
use order_service::http::Description;
use sqlx::Connection as _;
use testkit::documented::{Documented, Route};
use testkit::http::Client;
use testkit::pair::{TestPair, Who};
use utoipa::OpenApi as _;
use uuid::Uuid;

use crate::support::{becomes, command, order, pair, reserved, setup, sound};

const PLACE: &str = "post /v1/orders";
const LIST: &str = "get /v1/orders";
const READ: &str = "get /v1/orders/{id}";
const HISTORY: &str = "get /v1/orders/{id}/history";
const CONFIRM: &str = "post /v1/orders/{id}/confirm";
const CANCEL: &str = "post /v1/orders/{id}/cancel";

/// All routes, for this order.
fn routes(id: &str) -> Vec<Route> {
    let all = [PLACE, LIST, READ, HISTORY, CONFIRM, CANCEL];
    let route = |name: &'static str| {
        let (method, template) = name.split_once(' ').unwrap();
        let body = (name == PLACE).then(|| TestPair::basket(&[("A", 1)]));
        let roles: &[_] = if method == "get" { &["client", "operator"] } else { &["client"] };
        Route { method, template, path: template.replace("{id}", id), body, roles }
    };
    all.into_iter().map(route).collect()
}

fn client_of(pair: &TestPair) -> impl Fn(&str) -> Client + '_ {
    |role| match role {
        "client" => pair.client(),
        "service" => pair.client_of(Service::Order, 0, Who::Peer),
        "operator" => pair.client_of(Service::Order, 0, Who::Operator),
        _ => Client::new(&pair.url(Service::Order, 0)),
    }
}

#[tokio::test]
async fn every_documented_answer_is_given() {
    let mut seen = Documented::new(&serde_json::to_value(Description::openapi()).unwrap());
    let metered = setup().env(Service::Order, "PRINCIPAL_QUOTA", "1").start().await.unwrap();
    seen.over_quota(&routes(&Uuid::now_v7().to_string()), &client_of(&metered)).await;
    drop(metered);
    let brief = setup().env(Service::Order, "HOLD_SECONDS", "1").start().await.unwrap();
    brief.stock("A", 1).await;
    let expired = reserved(&brief, &[("A", 1)]).await;
    becomes(&brief, &expired, "expired").await;
    seen.expect(CONFIRM, command(&brief, &expired, "confirm"), 410, Some("reservation-expired")).await;
    sound(&brief).await;
    drop(brief);

    let pair = pair().await;
    let id = reserved(&pair, &[("A", 1)]).await;
    let routes = routes(&id);
    assert_eq!(routes.iter().map(Route::name).collect::<std::collections::BTreeSet<_>>(), seen.routes());
    seen.wrong_requests(&routes, &client_of(&pair)).await;
    let token = |_: &str| pair.tokens().secret(Who::Client).to_owned();
    seen.stalled_bodies(&routes, pair.url(Service::Order, 0).trim_start_matches("http://"), &token).await;

    // Orders that are decided.
    let client = pair.client();
    let get = |path: &str| client.get(path);
    let placed = seen.expect(PLACE, order(&pair, &[("A", 1)]), 201, None).await.json();
    seen.expect(READ, get(&format!("/v1/orders/{id}")), 200, None).await;
    seen.expect(HISTORY, get(&format!("/v1/orders/{id}/history")), 200, None).await;
    seen.expect(LIST, get("/v1/orders"), 200, None).await;
    seen.expect(CONFIRM, command(&pair, &id, "confirm"), 200, None).await;
    seen.expect(CANCEL, command(&pair, &id, "cancel"), 409, Some("illegal-transition")).await;
    let other = placed["id"].as_str().unwrap();
    seen.expect(CANCEL, command(&pair, other, "cancel"), 200, None).await;
    seen.expect(CONFIRM, command(&pair, other, "confirm"), 409, Some("illegal-transition")).await;
    seen.expect(PLACE, order(&pair, &[("A", 999_999)]), 409, Some("insufficient-stock")).await;

    // Orders that do not exist.
    let ghost = Uuid::now_v7().to_string();
    seen.expect(READ, get(&format!("/v1/orders/{ghost}")), 404, Some("not-found")).await;
    seen.expect(HISTORY, get(&format!("/v1/orders/{ghost}/history")), 404, Some("not-found")).await;
    seen.expect(CONFIRM, command(&pair, &ghost, "confirm"), 404, Some("not-found")).await;
    seen.expect(CANCEL, command(&pair, &ghost, "cancel"), 404, Some("not-found")).await;
    seen.expect(LIST, get("/v1/orders?limit=0"), 400, Some("malformed-parameter")).await;
    seen.expect(READ, get("/v1/orders/1"), 400, Some("malformed-parameter")).await;
    seen.expect(HISTORY, get("/v1/orders/1/history"), 400, Some("malformed-parameter")).await;

    // Orders that cannot be decided while inventory is unreachable.
    let [to_confirm, to_cancel] = [reserved(&pair, &[("B", 1)]).await, reserved(&pair, &[("B", 1)]).await];
    pair.hop().close().await;
    let placed = seen.expect(PLACE, order(&pair, &[("C", 1)]), 202, None).await;
    assert!(!placed.header("location").is_empty() && placed.header("retry-after") == "1", "{placed}");
    seen.expect(CONFIRM, command(&pair, &to_confirm, "confirm"), 202, None).await;
    seen.expect(CANCEL, command(&pair, &to_cancel, "cancel"), 202, None).await;
    pair.hop().open().await;
    becomes(&pair, placed.json()["id"].as_str().unwrap(), "reserved").await;
    becomes(&pair, &to_confirm, "confirmed").await;
    becomes(&pair, &to_cancel, "cancelled").await;

    sound(&pair).await;

    // An unreachable database, then one with a wrong schema.
    pair.network(Service::Order).close().await;
    seen.all(&routes, &client_of(&pair), 503, "unavailable").await;
    pair.network(Service::Order).heal().await;
    pair.ready(Service::Order, 0).await;
    let mut admin = sqlx::PgConnection::connect_with(&pair.database(Service::Order).admin()).await.unwrap();
    sqlx::raw_sql("ALTER TABLE orders RENAME TO a; ALTER TABLE journal RENAME TO b")
        .execute(&mut admin)
        .await
        .unwrap();
    seen.all(&routes, &client_of(&pair), 500, "internal").await;

    assert_eq!(seen.missing(), [] as [&(String, u16); 0]);
    assert_eq!(seen.unnamed(), [] as [&(String, u16); 0]);
}
