//! The public API over real sockets.

use std::collections::BTreeSet;
use std::time::Duration;

use inventory_api::{
    Answer, CallContext, InventoryClient, Refusal, ReserveRequest, X_CAUSATION_ID, X_HYBRID_CLOCK,
};
use inventory_service::http::Description;
use mainstay::RequestContext;
use mainstay::client::{ClientConfig, HyperTransport, TransportConfig};
use mainstay::headers::{IDEMPOTENCY_KEY, X_DEADLINE_MS, X_OUTCOME};
use serde_json::{Value, json};
use testkit::eventually;
use testkit::http::{Call, Client, Reply};
use utoipa::OpenApi as _;
use uuid::Uuid;

use crate::served::{Served, config, reply, reserve_body};
use crate::support::{PATIENCE, Stage};

/// Method, template, path of something that exists or could, body, and the roles that may.
type Route = (&'static str, &'static str, String, Option<Value>, &'static [&'static str]);

/// Every route.
fn routes() -> Vec<Route> {
    let id = Uuid::now_v7();
    let reserve = reserve_body(id, "a", 1);
    vec![
        ("post", "/v1/items", "/v1/items".into(), Some(json!({"sku": format!("new-{id}")})), &["operator"]),
        (
            "post",
            "/v1/items/{sku}/receipts",
            "/v1/items/a/receipts".into(),
            Some(json!({"quantity": 1})),
            &["operator"],
        ),
        ("get", "/v1/items/{sku}", "/v1/items/a".into(), None, &["client", "operator"]),
        ("get", "/v1/items", "/v1/items".into(), None, &["client", "operator"]),
        ("post", "/v1/reservations", "/v1/reservations".into(), Some(reserve), &["service"]),
        (
            "post",
            "/v1/reservations/{id}/confirm",
            format!("/v1/reservations/{id}/confirm"),
            None,
            &["service"],
        ),
        (
            "post",
            "/v1/reservations/{id}/release",
            format!("/v1/reservations/{id}/release"),
            None,
            &["service"],
        ),
        ("get", "/v1/reservations/{id}", format!("/v1/reservations/{id}"), None, &["service", "operator"]),
    ]
}

fn call(client: &Client, method: &str, path: &str, body: Option<&Value>) -> Call {
    let call = if method == "get" { client.get(path) } else { client.post(path) };
    match body {
        Some(body) => call.json(body),
        None => call,
    }
}

#[tokio::test]
async fn each_route_serves_its_roles_and_nobody_else() {
    let served = Served::with(&[("a", 1_000)]).await;
    let documented: BTreeSet<_> = documented().into_iter().map(|(method, path, _)| (method, path)).collect();
    let listed = routes();
    let routed: BTreeSet<_> = listed.iter().map(|(m, t, ..)| ((*m).to_owned(), (*t).to_owned())).collect();
    assert_eq!(routed, documented, "this test knows every route");
    for (method, template, path, body, roles) in listed {
        let stranger = Client::new(&served.base).token("a-token-that-nobody-was-given");
        for (client, role) in [
            (&served.nobody, "nobody"),
            (&stranger, "stranger"),
            (&served.client, "client"),
            (&served.service, "service"),
            (&served.operator, "operator"),
        ] {
            let reply = reply(call(client, method, &path, body.as_ref())).await;
            let what = format!("{role} {method} {template}: {reply}");
            if roles.contains(&role) {
                assert!(!matches!(reply.status.as_u16(), 401 | 403), "{what}");
            } else if matches!(role, "nobody" | "stranger") {
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

/// (method, path, status) of the API's description.
fn documented() -> BTreeSet<(String, String, String)> {
    let document = serde_json::to_value(Description::openapi()).unwrap();
    let mut all = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for status in operation["responses"].as_object().unwrap().keys() {
                all.insert((method.clone(), path.clone(), status.clone()));
            }
        }
    }
    all
}

/// Collects what each route was seen to answer.
struct Seen(BTreeSet<(String, String, String)>);

impl Seen {
    async fn expect(&mut self, template: &str, call: Call, status: u16, problem: Option<&str>) -> Reply {
        let method = template.split_once(' ').unwrap();
        let reply = reply(call).await.expect(status);
        assert_eq!(reply.problem().as_deref(), problem, "{template}: {reply}");
        self.0.insert((method.0.to_owned(), method.1.to_owned(), status.to_string()));
        assert!(!reply.header("x-correlation-id").is_empty(), "{reply}");
        if let Some(name) = problem {
            let body = reply.json();
            assert_eq!(body["type"], format!("urn:mainstay:problem:{name}"));
            assert_eq!(body["status"], status);
            assert_eq!(body["correlation_id"], reply.header("x-correlation-id"), "{reply}");
            assert!(body["retryable"].is_boolean() && body["same_key"].is_boolean(), "{reply}");
            assert_eq!(body["outcome"].as_str().unwrap_or_default(), reply.header("x-outcome"), "{reply}");
            if matches!(status, 429 | 503) {
                assert!(!reply.header("retry-after").is_empty(), "{reply}");
            }
        }
        reply
    }
}

#[tokio::test]
async fn every_documented_answer_is_given() {
    let served = Served::with(&[("a", 1_000), ("spaced sku", 5), ("taken", 1)]).await;
    let mut seen = Seen(BTreeSet::new());
    let (service, operator, client) = (&served.service, &served.operator, &served.client);

    // What every route can answer.
    for (method, template, path, body, roles) in routes() {
        let name = format!("{method} {template}");
        let by = |role: &str| match role {
            "client" => client,
            "service" => service,
            _ => operator,
        };
        let good = by(roles[0]);
        let other = ["client", "service", "operator"].into_iter().find(|role| !roles.contains(role)).unwrap();
        let make = |client| call(client, method, &path, body.as_ref());
        seen.expect(&name, make(&served.nobody), 401, Some("unauthenticated")).await;
        seen.expect(&name, make(by(other)), 403, Some("forbidden")).await;
        let late = make(good).header(&X_DEADLINE_MS, "0");
        let late = seen.expect(&name, late, 504, Some("deadline-exceeded")).await;
        assert_eq!(late.json()["outcome"], "not-executed");
        if method == "get" {
            continue;
        }
        let refused = seen
            .expect(&name, make(good).without(&IDEMPOTENCY_KEY), 400, Some("idempotency-key-missing"))
            .await;
        assert_eq!(refused.json()["errors"][0]["field"], "Idempotency-Key");
        seen.expect(&name, make(good).key("too short"), 400, Some("idempotency-key-invalid")).await;
        let text = |text: &'static str| {
            call(good, method, &path, None).header(&http::header::CONTENT_TYPE, "application/json").body(text)
        };
        seen.expect(&name, text("{"), 400, Some("malformed-json")).await;
        seen.expect(&name, text("{\"x\": 1}"), 422, Some("validation-failed")).await;
        seen.expect(&name, text("[]"), 422, Some("validation-failed")).await;
        let xml =
            call(good, method, &path, None).header(&http::header::CONTENT_TYPE, "text/xml").body("<a/>");
        seen.expect(&name, xml, 415, Some("unsupported-media-type")).await;
        let huge = make(good).body(" ".repeat(256 * 1024 + 1));
        seen.expect(&name, huge, 413, Some("payload-too-large")).await;
    }

    // Items.
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

    // Reservations.
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

    // Without a database nothing is done.
    let stage = served.stage.options.clone().port(1);
    let mut down = config(&served.stage, false);
    down.common.database_url = chassis::Secret::new(stage);
    let down = Served::start(Stage::new().await, down).await;
    for (method, template, path, body, roles) in routes() {
        let client = match roles[0] {
            "client" => &down.client,
            "service" => &down.service,
            _ => &down.operator,
        };
        let call = call(client, method, &path, body.as_ref());
        let reply = reply(call).await.expect(503);
        assert_eq!(reply.json()["outcome"], "not-executed", "{reply}");
        seen.0.insert((method.to_owned(), template.to_owned(), "503".to_owned()));
    }

    // The slow body, the quota and the defect belong to the tests of what is around every service; the key of a
    // receipt is never in flight, since it is recorded with its reply.
    let elsewhere = |status: &str| matches!(status, "408" | "429" | "500");
    let missing: Vec<_> = documented()
        .into_iter()
        .filter(|answer| !elsewhere(&answer.2) && !seen.0.contains(answer))
        .filter(|answer| answer != &("post".into(), "/v1/items/{sku}/receipts".into(), "409".into()))
        .collect();
    assert_eq!(missing, []);
    let undocumented: Vec<_> = seen.0.difference(&documented()).cloned().collect();
    assert_eq!(undocumented, []);
}

#[tokio::test]
async fn a_replay_is_byte_for_byte_the_first_reply_under_todays_correlation_id() {
    let served = Served::with(&[("a", 10)]).await;
    let id = Uuid::now_v7();
    for (what, status) in [("reserve", 201), ("confirm", 200), ("refused", 409)] {
        let key = format!("the key of one {what}");
        let call = || match what {
            "reserve" => served.reserve(id, "a", 1),
            "confirm" => served.confirm(id),
            _ => served.reserve(Uuid::new_v5(&id, b"refused"), "a", 1_000),
        };
        let first = reply(call().key(&key).correlation("first")).await.expect(status);
        let again = reply(call().key(&format!("\"{key}\"")).correlation("again")).await.expect(status);
        assert_eq!(again.body, first.body);
        for name in ["content-type", "location", "x-entry-id", "x-outcome"] {
            assert_eq!(again.header(name), first.header(name), "{name}");
        }
        assert!(again.is_replayed() && !first.is_replayed());
        assert_eq!((first.header("x-correlation-id"), again.header("x-correlation-id")), ("first", "again"));
        assert!(!first.header("x-entry-id").is_empty());
        assert!(again.header("x-hybrid-clock") > first.header("x-hybrid-clock"));
    }
    let reused =
        reply(served.reserve(Uuid::now_v7(), "a", 1).key("the key of one reserve")).await.expect(422);
    assert_eq!(reused.problem().as_deref(), Some("idempotency-key-reused"));
    let elsewhere = reply(served.release(id).key("the key of one reserve")).await.expect(422);
    assert_eq!(elsewhere.problem().as_deref(), Some("idempotency-key-reused"));
}

#[tokio::test]
async fn white_space_and_the_order_of_members_make_no_other_request() {
    let served = Served::with(&[]).await;
    let send = |body: &'static str| {
        let call = served.operator.post("/v1/items").key("a key for one creation");
        call.header(&http::header::CONTENT_TYPE, "application/json; charset=utf-8").body(body)
    };
    reply(send(r#"{"sku": "a", "on_hand": 3}"#)).await.expect(201);
    assert!(reply(send(r#"  {"on_hand":3,"sku":"a"}"#)).await.expect(201).is_replayed());
    reply(send(r#"{"sku": "a", "on_hand": 4}"#)).await.expect(422);
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let served = Served::with(&[]).await;
    let body = json!({
        "reservation_id": Uuid::nil(), "order_id": Uuid::nil(), "hold_seconds": 0,
        "lines": [{"sku": "", "quantity": 1}, {"sku": "a", "quantity": 0}, {"sku": "a", "quantity": 1}],
    });
    let refused = reply(served.service.post("/v1/reservations").json(&body)).await.expect(422);
    let errors = refused.json()["errors"].clone();
    let fields: Vec<_> = errors.as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["lines[0].sku", "lines[1].quantity", "lines[2].sku", "hold_seconds"]);
    let body = json!({"sku": " a", "name": "a\nb", "on_hand": -1});
    let refused = reply(served.operator.post("/v1/items").json(&body)).await.expect(422);
    let errors = refused.json()["errors"].clone();
    let fields: Vec<_> = errors.as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["sku", "name", "on_hand"]);
    assert_eq!(served.stage.keys().await, 0, "a refused request claims nothing");
}

#[tokio::test]
async fn a_request_leaves_its_cause_and_clock_in_the_journal_and_malformed_ones_are_absent() {
    let served = Served::with(&[("a", 10)]).await;
    let (id, cause) = (Uuid::now_v7(), Uuid::now_v7());
    let clock = reply(served.confirm(Uuid::nil())).await.header("x-hybrid-clock").to_owned();
    let call = served.reserve(id, "a", 1).correlation("story-1");
    let call = call.header(&X_CAUSATION_ID, cause.to_string()).header(&X_HYBRID_CLOCK, clock.clone());
    let held = reply(call).await.expect(201);
    let entry = served.stage.entries(Some(id)).await.remove(0);
    assert_eq!((entry.causation_id, entry.correlation_id.as_str()), (Some(cause), "story-1"));
    assert!(entry.hlc.to_string() > clock);
    assert_eq!(entry.id.to_string(), held.header("x-entry-id"));
    let wire: ReserveRequest = serde_json::from_value(reserve_body(id, "a", 1)).unwrap();
    let payload_hash = journal::entry::hex(&journal::entry::payload_hash(&wire));
    assert_eq!(entry.payload_hash, Some(payload_hash), "the sender can compute it too");
    let call = served.confirm(id).header(&X_CAUSATION_ID, "nonsense").header(&X_HYBRID_CLOCK, "soon");
    reply(call).await.expect(200);
    assert_eq!(served.stage.entries(Some(id)).await[1].causation_id, None);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_nothing() {
    let served = Served::with(&[("a", 10)]).await;
    let id = Uuid::now_v7();
    let mut holder = served.stage.admin.begin().await.unwrap();
    sqlx::query("SELECT FROM items FOR UPDATE").execute(&mut *holder).await.unwrap();
    let key = "the key of one who left";
    let left = served.reserve(id, "a", 1).key(key);
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    tokio::select! {
        answer = left.send() => panic!("answered while its item was locked: {answer:?}"),
        () = eventually("the request waits for the lock", PATIENCE, || async {
            sqlx::query_scalar::<_, i64>(waiting).fetch_one(&served.stage.admin).await.unwrap() == 1
        }) => {}
    }
    holder.rollback().await.unwrap();
    eventually("the reservation is held", PATIENCE, || async {
        served.stage.status(id).await.as_deref() == Some("held")
    })
    .await;
    assert!(reply(served.reserve(id, "a", 1).key(key)).await.expect(201).is_replayed());
}

#[tokio::test]
async fn a_deadline_that_ends_in_the_middle_leaves_the_outcome_unknown_until_the_key_is_repeated() {
    let served = Served::with(&[("a", 10)]).await;
    let mut holder = served.stage.admin.begin().await.unwrap();
    sqlx::query("SELECT FROM items FOR UPDATE").execute(&mut *holder).await.unwrap();
    let id = Uuid::now_v7();
    let key = "the key of one in a hurry";
    let call = served.reserve(id, "a", 1).key(key).deadline(Duration::from_millis(400));
    let over = tokio::time::Instant::now() + Duration::from_millis(500);
    let late = reply(call).await.expect(504);
    assert_eq!(late.problem().as_deref(), Some("deadline-exceeded"));
    assert_eq!((late.header(X_OUTCOME.as_str()), &late.json()["same_key"]), ("unknown", &json!(true)));
    tokio::time::sleep_until(over).await;
    holder.rollback().await.unwrap();
    let repeat = reply(served.reserve(id, "a", 1).key(key)).await.expect(201);
    assert!(!repeat.is_replayed(), "its turn came after the deadline, so it was undone");
    assert_eq!(served.stage.stock("a").await, (10, 1));
    served.stage.assert_sound().await;
}

#[tokio::test]
async fn the_typed_client_understands_every_answer() {
    let served = Served::with(&[("a", 10)]).await;
    let stack = mainstay::client::stack(
        ClientConfig::new("inventory"),
        HyperTransport::new(&TransportConfig::default()),
    )
    .unwrap();
    let client = InventoryClient::new(stack, &served.base, "a-token-of-the-service").unwrap();
    let context = || CallContext {
        request: RequestContext::background(Duration::from_secs(10)),
        key: Uuid::now_v7(),
        causation_id: None,
        clock: "0000000000000000".to_owned(),
    };
    let request = |id, sku: &str, quantity| -> ReserveRequest {
        serde_json::from_value(reserve_body(id, sku, quantity)).unwrap()
    };
    let id = Uuid::now_v7();
    let held = client.reserve(context(), &request(id, "a", 3)).await;
    let Answer::Applied(reservation) = held.answer else { panic!("{held:?}") };
    assert!(reservation.expires_at.is_some() && held.entry_id.is_some() && held.clock.is_some());
    let short = client.reserve(context(), &request(Uuid::now_v7(), "a", 8)).await.answer;
    let Answer::Refused(Refusal::InsufficientStock(lines)) = short else { panic!("{short:?}") };
    assert_eq!((lines[0].requested, lines[0].available), (8, 7));
    let unknown = client.reserve(context(), &request(Uuid::now_v7(), "x", 8)).await.answer;
    assert_eq!(unknown, Answer::Refused(Refusal::UnknownSku(vec!["x".to_owned()])));
    let unseen = client.confirm(context(), Uuid::now_v7()).await.answer;
    assert_eq!(unseen, Answer::Refused(Refusal::NotFound));
    assert!(matches!(client.confirm(context(), id).await.answer, Answer::Applied(_)));
    let late = client.release(context(), id).await;
    assert_eq!(late.answer, Answer::Refused(Refusal::IllegalTransition("confirmed".to_owned())));
    assert!(late.entry_id.is_some());
    let voided = Uuid::now_v7();
    assert!(matches!(client.release(context(), voided).await.answer, Answer::Applied(_)));
    let shut = client.reserve(context(), &request(voided, "a", 1)).await.answer;
    assert_eq!(shut, Answer::Refused(Refusal::ReservationVoided));
    let ended = Uuid::now_v7();
    client.reserve(context(), &request(ended, "a", 1)).await;
    served.stage.let_end(ended).await;
    assert_eq!(client.confirm(context(), ended).await.answer, Answer::Refused(Refusal::ReservationExpired));
    let read = client.reservation(context(), ended).await;
    assert!(matches!(read.answer, Answer::Applied(_)) && read.entry_id.is_some());
}

#[tokio::test]
async fn the_description_and_its_page_are_served_without_a_token() {
    let served = Served::with(&[]).await;
    let document = reply(served.nobody.get("/openapi.json")).await.expect(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["info"]["title"], "Mainstay inventory service");
    let page = reply(served.nobody.get("/docs")).await.expect(200);
    assert!(String::from_utf8_lossy(&page.body).contains("/v1/reservations/{id}/confirm"));
    reply(served.nobody.get("/v1/nothing")).await.expect(404);
    reply(served.operator.put("/v1/items")).await.expect(405);
}
