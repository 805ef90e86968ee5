//! Tests of every route with every role, and of every documented answer.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use inventory_service::http::Description;
use serde_json::json;
use sqlx::Executor as _;
use testkit::documented::{Documented, Route};
use testkit::http::Client;
use utoipa::OpenApi as _;
use uuid::Uuid;

use crate::served::{Served, config, reply, reserve_body, token};
use crate::support::Stage;

fn described() -> Documented {
    Documented::new(&serde_json::to_value(Description::openapi()).unwrap())
}

/// All routes of the public API.
fn routes() -> Vec<Route> {
    let id = Uuid::now_v7();
    let route = |method, template, path: &str, body, roles| Route {
        method,
        template,
        path: path.to_owned(),
        body,
        roles,
    };
    let of = |command: &str| format!("/v1/reservations/{id}{command}");
    vec![
        route("post", "/v1/items", "/v1/items", Some(json!({"sku": format!("new-{id}")})), &["operator"]),
        route(
            "post",
            "/v1/items/{sku}/receipts",
            "/v1/items/a/receipts",
            Some(json!({"quantity": 1})),
            &["operator"],
        ),
        route("get", "/v1/items/{sku}", "/v1/items/a", None, &["client", "operator"]),
        route("get", "/v1/items", "/v1/items", None, &["client", "operator"]),
        route("post", "/v1/reservations", "/v1/reservations", Some(reserve_body(id, "a", 1)), &["service"]),
        route("post", "/v1/reservations/{id}/confirm", &of("/confirm"), None, &["service"]),
        route("post", "/v1/reservations/{id}/release", &of("/release"), None, &["service"]),
        route("get", "/v1/reservations/{id}", &of(""), None, &["service", "operator"]),
    ]
}

#[tokio::test]
async fn each_route_serves_its_roles_and_refuses_all_others() {
    let served = Served::with(&[("a", 1_000)]).await;
    let routes = routes();
    let names: BTreeSet<String> = routes.iter().map(Route::name).collect();
    assert_eq!(names, described().routes(), "this test knows every route");
    for route in routes {
        let (name, roles) = (route.name(), route.roles);
        let stranger = Client::new(&served.base).token("a-token-that-was-never-issued");
        for (client, role) in [
            (&served.anonymous, "anonymous"),
            (&stranger, "stranger"),
            (&served.client, "client"),
            (&served.service, "service"),
            (&served.operator, "operator"),
        ] {
            let reply = reply(route.call(client)).await;
            let what = format!("{role} {name}: {reply}");
            if roles.contains(&role) {
                assert!(!matches!(reply.status.as_u16(), 401 | 403), "{what}");
            } else if matches!(role, "anonymous" | "stranger") {
                assert_eq!(
                    (reply.status.as_u16(), reply.problem().as_deref()),
                    (401, Some("unauthenticated")),
                    "{what}"
                );
                assert!(reply.header("www-authenticate").starts_with("Bearer"), "{what}");
            } else {
                assert_eq!(
                    (reply.status.as_u16(), reply.problem().as_deref()),
                    (403, Some("forbidden")),
                    "{what}"
                );
            }
        }
    }
    served.stage.assert_sound().await;
}

/// A function that gives the client of a role.
fn client_of(served: &Served) -> impl Fn(&str) -> Client + '_ {
    |role| match role {
        "client" => served.client.clone(),
        "service" => served.service.clone(),
        "operator" => served.operator.clone(),
        _ => served.anonymous.clone(),
    }
}

#[tokio::test]
async fn every_documented_answer_is_given() {
    let served = Served::with(&[("a", 1_000), ("spaced sku", 5), ("taken", 1)]).await;
    let mut seen = described();
    let (service, operator, client) = (&served.service, &served.operator, &served.client);
    seen.wrong_requests(&routes(), &client_of(&served)).await;
    seen.stalled_bodies(&routes(), served.base.trim_start_matches("http://"), &token).await;

    // Answers of the routes for items.
    let item =
        |sku: &str| operator.post("/v1/items").json(&json!({"sku": sku, "name": "An item", "on_hand": 3}));
    let created = seen.expect("post /v1/items", item("x y/z"), 201, None).await;
    assert_eq!(
        created.json(),
        json!({"sku": "x y/z", "name": "An item", "on_hand": 3, "held": 0, "available": 3})
    );
    assert_eq!(created.header("location"), "/v1/items/x%20y%2Fz");
    seen.expect("post /v1/items", item("x y/z"), 409, Some("sku-exists")).await;
    let read = client.get(created.header("location"));
    assert_eq!(seen.expect("get /v1/items/{sku}", read, 200, None).await.json(), created.json());
    seen.expect("get /v1/items/{sku}", client.get("/v1/items/ghost"), 404, Some("not-found")).await;
    seen.expect("get /v1/items/{sku}", client.get("/v1/items/%00"), 400, Some("malformed-parameter")).await;
    let receipt =
        |sku: &str| operator.post(&format!("/v1/items/{sku}/receipts")).json(&json!({"quantity": 50}));
    let received = seen.expect("post /v1/items/{sku}/receipts", receipt("spaced%20sku"), 201, None).await;
    assert_eq!(received.json()["on_hand"], 55);
    seen.expect("post /v1/items/{sku}/receipts", receipt("ghost"), 404, Some("not-found")).await;
    let page = seen.expect("get /v1/items", client.get("/v1/items?limit=2"), 200, None).await.json();
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let next = page["next"].as_str().unwrap().replace(' ', "%20");
    let rest = reply(client.get(&format!("/v1/items?limit=2&after={next}"))).await.expect(200).json();
    assert_ne!(rest["items"][0], page["items"][1]);
    for bad in
        ["/v1/items?limit=0", "/v1/items?limit=501", "/v1/items?after=%20", "/v1/items?limit=1&limit=2"]
    {
        seen.expect("get /v1/items", client.get(bad), 400, Some("malformed-parameter")).await;
    }

    // Answers of the routes for reservations.
    let (id, short, ended, shut) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let held = seen.expect("post /v1/reservations", served.reserve(id, "a", 4), 201, None).await;
    assert_eq!(held.header("location"), format!("/v1/reservations/{id}"));
    seen.expect("post /v1/reservations", served.reserve(id, "a", 4), 200, None).await;
    let refused = served.reserve(short, "taken", 2);
    let refused = seen.expect("post /v1/reservations", refused, 409, Some("insufficient-stock")).await;
    assert_eq!(refused.json()["short_lines"], json!([{"sku": "taken", "requested": 2, "available": 1}]));
    let unknown = served.reserve(Uuid::now_v7(), "ghost", 2);
    let unknown = seen.expect("post /v1/reservations", unknown, 422, Some("unknown-sku")).await;
    assert_eq!(unknown.json()["skus"], json!(["ghost"]));
    seen.expect("post /v1/reservations/{id}/release", served.release(shut), 200, None).await;
    seen.expect("post /v1/reservations", served.reserve(shut, "a", 1), 409, Some("reservation-voided")).await;
    let other = seen
        .expect("post /v1/reservations", served.reserve(id, "a", 5), 409, Some("illegal-transition"))
        .await;
    assert_eq!(other.json()["retryable"], true, "it is held, so this may change");
    seen.expect("post /v1/reservations/{id}/confirm", served.confirm(id), 200, None).await;
    let again = seen
        .expect("post /v1/reservations/{id}/release", served.release(id), 409, Some("illegal-transition"))
        .await;
    assert_eq!((&again.json()["from"], &again.json()["to"]), (&json!("confirmed"), &json!("released")));
    seen.expect("post /v1/reservations/{id}/confirm", served.confirm(shut), 409, Some("illegal-transition"))
        .await;
    seen.expect("post /v1/reservations/{id}/confirm", served.confirm(Uuid::now_v7()), 404, Some("not-found"))
        .await;
    seen.expect("post /v1/reservations", served.reserve(ended, "a", 1), 201, None).await;
    served.stage.let_end(ended).await;
    seen.expect(
        "post /v1/reservations/{id}/confirm",
        served.confirm(ended),
        410,
        Some("reservation-expired"),
    )
    .await;
    let read = service.get(&format!("/v1/reservations/{id}"));
    let read = seen.expect("get /v1/reservations/{id}", read, 200, None).await;
    assert_eq!((&read.json()["status"], read.header("x-entry-id").is_empty()), (&json!("confirmed"), false));
    let unseen = format!("/v1/reservations/{}", Uuid::now_v7());
    seen.expect("get /v1/reservations/{id}", service.get(&unseen), 404, Some("not-found")).await;
    seen.expect(
        "get /v1/reservations/{id}",
        service.get("/v1/reservations/1"),
        400,
        Some("malformed-parameter"),
    )
    .await;
    seen.expect(
        "post /v1/reservations/{id}/confirm",
        service.post("/v1/reservations/1/confirm"),
        400,
        Some("malformed-parameter"),
    )
    .await;
    served.stage.assert_sound().await;
    let stage = Stage::with(&[("a", 1_000)]).await;
    let mut down = config(&stage, false);
    down.common.database_url = chassis::Secret::new(stage.options.clone().port(1));
    let down = Served::start(stage, down).await;
    seen.all(&routes(), &client_of(&down), 503, "unavailable").await;

    let stage = Stage::with(&[("a", 1_000)]).await;
    stage.admin.execute("ALTER TABLE items RENAME TO a; ALTER TABLE reservations RENAME TO b").await.unwrap();
    let config_of_broken = config(&stage, false);
    let broken = Served::start(stage, config_of_broken).await;
    seen.all(&routes(), &client_of(&broken), 500, "internal").await;

    let stage = Stage::with(&[("a", 1_000)]).await;
    let mut metered = config(&stage, false);
    metered.common.quota = NonZeroU32::new(1);
    let metered = Served::start(stage, metered).await;
    seen.over_quota(&routes(), &client_of(&metered)).await;

    assert_eq!(seen.missing(), [] as [&(String, u16); 0]);
    assert_eq!(seen.unnamed(), [] as [&(String, u16); 0]);
}
