//! Tests of documents of a newer release: unknown members are ignored at every level of every reply, event and recorded
//! decision, and refused at every level of every request.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use inventory_api::{
    Answer, CallContext, CreateItem, InventoryClient, Item, ItemPage, Line, Receipt, Refusal, Reservation,
    ReserveRequest, ShortLine,
};
use journal::{Alternative, Entry};
use mainstay::client::CallError;
use mainstay::{Problem, RequestContext};
use order_service::app::OrderView;
use order_service::http::{History, PlaceOrder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testkit::pair::Who;
use tower::service_fn;
use uuid::Uuid;

use crate::support::pair;

/// A member that no release knows.
const UNKNOWN: &str = "member_of_a_later_release";

/// Copies of `document`, each with the unknown member in one of its objects, with the path of that object.
fn extended(document: &Value) -> Vec<(String, Value)> {
    fn objects(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.push(path.to_owned());
                for (name, value) in members {
                    objects(value, &format!("{path}/{name}"), found);
                }
            }
            Value::Array(values) => {
                for (n, value) in values.iter().enumerate() {
                    objects(value, &format!("{path}/{n}"), found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut paths = Vec::new();
    objects(document, "", &mut paths);
    let extend = |path: String| {
        let mut extended = document.clone();
        let object = extended.pointer_mut(&path).unwrap().as_object_mut().unwrap();
        object.insert(UNKNOWN.to_owned(), json!({"deep": [1]}));
        (path, extended)
    };
    paths.into_iter().map(extend).collect()
}

/// Checks that `sample` reads as the same `T` with and without the unknown member. Paths in `free` may differ, because `T`
/// keeps their values as they are.
fn reads<T: DeserializeOwned + Serialize>(sample: &Value, free: &[&str]) {
    let read =
        |value: &Value| serde_json::from_value::<T>(value.clone()).map(|t| serde_json::to_value(t).unwrap());
    let plain = read(sample).unwrap();
    let all = extended(sample);
    assert!(!all.is_empty());
    for (path, extended) in all {
        let again = read(&extended).unwrap_or_else(|error| panic!("{path} of {sample}: {error}"));
        if !free.iter().any(|free| path.starts_with(free)) {
            assert_eq!(again, plain, "{path}");
        }
    }
}

const ID: &str = "0192d3f4-0000-7000-8000-000000000001";
const TIME: &str = "2026-01-01T00:00:00Z";

fn line() -> Value {
    json!({"sku": "A", "quantity": 1})
}

fn reservation(status: &str) -> Value {
    json!({"id": ID, "order_id": ID, "status": status, "lines": [line(), line()], "expires_at": TIME})
}

fn item() -> Value {
    json!({"sku": "A", "name": "a", "on_hand": 3, "held": 1, "available": 2})
}

fn problem(status: u16, name: &str, more: &Value) -> Value {
    let mut problem = json!({"type": format!("urn:mainstay:problem:{name}"), "title": name, "status": status,
        "retryable": false, "same_key": false, "outcome": "refused", "correlation_id": "c",
        "errors": [{"field": "f", "detail": "d"}]});
    problem.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    problem
}

fn entry(rule: &str, inputs: &Value) -> Value {
    json!({"aggregate_id": ID, "aggregate_kind": "order", "alternatives": [{"to": "a", "refused_because": "b"}],
        "at": TIME, "attempt": 1, "causation_id": ID, "command": "place", "config_hash": "00",
        "correlation_id": "c", "evidence": {"decisions": [{"layer": "retry"}]}, "from": "none",
        "hlc": "0000000000000000", "id": ID, "inputs": inputs, "key_hash": "00", "payload_hash": "00",
        "prev_hash": null, "principal": "p", "revision": "r", "rule": rule, "service": "order",
        "to": "reserving", "trace_id": "t", "version": 1})
}

#[test]
fn a_member_of_a_later_release_is_ignored_at_every_level_of_every_reply_and_event() {
    reads::<Line>(&line(), &[]);
    reads::<ShortLine>(&json!({"sku": "A", "requested": 2, "available": 1}), &[]);
    reads::<Reservation>(&reservation("held"), &[]);
    reads::<Item>(&item(), &[]);
    reads::<ItemPage>(&json!({"items": [item(), item()], "next": "A"}), &[]);
    // A problem keeps the members that it does not know.
    let short = json!({"short_lines": [{"sku": "A", "requested": 2, "available": 1}]});
    reads::<Problem>(&problem(409, "insufficient-stock", &short), &[""]);
    reads::<OrderView>(
        &json!({"id": ID, "status": "reserved", "version": 2, "customer_id": "17850", "lines": [line()],
            "reservation": {"id": ID, "expires_at": TIME}, "created_at": TIME, "updated_at": TIME,
            "correlation_id": "c"}),
        &[],
    );
    reads::<History>(
        &json!({"entries": [{"version": 1, "from": null, "to": "reserving", "at": TIME, "command": "place",
            "rule": "order.place@1", "inputs": {"lines": [line()]}, "alternatives": [], "evidence": {},
            "attempt": 1, "correlation_id": "c", "causation_id": null, "trace_id": null}],
            "unreadable": [{"seq": 1}]}),
        &["/entries/0/inputs", "/entries/0/evidence"],
    );
    reads::<Entry<'static>>(&entry("order.place@1", &json!({"lines": [line()]})), &["/inputs", "/evidence"]);
    reads::<Alternative>(&json!({"to": "a", "refused_because": "b"}), &[]);
    let items = json!([{"seq": 1, "hash": "00", "entry": {}}]);
    let page = json!({"service": "order", "items": items, "next": null, "more": false});
    // The page is read from text, because entries are embedded as they are.
    for (path, extended) in extended(&page) {
        let read = serde_json::from_str::<journal::feed::Page>(&extended.to_string());
        assert!(read.is_ok(), "{path}: {read:?}");
    }
}

#[test]
fn a_fingerprint_of_release_0_1_0_is_still_the_fingerprint_of_its_request() {
    fn is_kept<T: DeserializeOwned + Serialize>(body: &Value) {
        let typed: T = serde_json::from_value(body.clone()).unwrap();
        // That release hashed the body with its members in the order of their names, as a `Value` writes them.
        assert_eq!(serde_json::to_string(&typed).unwrap(), body.to_string());
    }
    is_kept::<PlaceOrder>(&json!({"customer_id": "17850", "lines": [line(), line()]}));
    is_kept::<ReserveRequest>(
        &json!({"reservation_id": ID, "order_id": ID, "lines": [line()], "hold_seconds": 900}),
    );
    is_kept::<CreateItem>(&json!({"sku": "A", "name": "\u{e9}\n\u{1}\"", "on_hand": 3}));
    is_kept::<CreateItem>(&json!({"sku": "A"}));
    is_kept::<Receipt>(&json!({"quantity": 3}));
}

/// The typed client's answer to a reserve when the peer replies with `body`.
async fn asked(status: u16, body: &Value) -> Answer<Reservation> {
    let body = Bytes::from(body.to_string());
    let stack = service_fn(move |_: Request<Full<Bytes>>| {
        let reply = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
        let reply = reply.body(body.clone()).unwrap();
        async move { Ok::<_, CallError>(reply) }
    });
    let client = InventoryClient::new(stack, "http://inventory", "a-token").unwrap();
    let context = CallContext {
        request: RequestContext::background(Duration::from_secs(1)),
        key: Uuid::nil(),
        causation_id: None,
        clock: String::new(),
        is_repeat: false,
    };
    let lines = vec![Line { sku: "A".to_owned(), quantity: 1 }].into();
    let id = ID.parse().unwrap();
    let request = ReserveRequest { reservation_id: id, order_id: id, lines, hold_seconds: 1 };
    client.reserve(context, &request).await.answer
}

#[tokio::test]
async fn the_typed_client_gives_the_same_answer_for_a_reply_with_a_member_of_a_later_release() {
    let short = json!({"short_lines": [{"sku": "A", "requested": 2, "available": 1}], "order_id": ID});
    for (status, body) in [
        (201, reservation("held")),
        (409, problem(409, "insufficient-stock", &short)),
        (422, problem(422, "unknown-sku", &json!({"skus": ["A"]}))),
        (409, problem(409, "reservation-voided", &json!({}))),
        (410, problem(410, "reservation-expired", &json!({}))),
        (409, problem(409, "illegal-transition", &json!({"from": "held", "to": "held", "allowed": []}))),
        (404, problem(404, "not-found", &json!({}))),
    ] {
        let plain = asked(status, &body).await;
        assert!(matches!(plain, Answer::Applied(_) | Answer::Refused(_)), "{plain:?}");
        for (path, extended) in extended(&body) {
            assert_eq!(asked(status, &extended).await, plain, "{status} {path}");
        }
    }
}

#[tokio::test]
async fn a_reply_of_the_right_shape_that_does_not_fit_the_call_is_unknown() {
    for status in ["confirmed", "released", "expired", "refused", "voided"] {
        let answer = asked(201, &reservation(status)).await;
        assert!(matches!(answer, Answer::Unknown(_)), "{status}: {answer:?}");
    }
    let mut endless = reservation("held");
    endless["expires_at"] = Value::Null;
    assert!(matches!(asked(201, &endless).await, Answer::Unknown(_)));
    let foreign = json!({"type": "about:blank", "title": "Conflict", "status": 409});
    assert!(matches!(asked(409, &foreign).await, Answer::Unknown(_)));
    let refused = problem(500, "write-refused", &json!({}));
    assert!(matches!(asked(500, &refused).await, Answer::NotExecuted(_)));
    let voided = asked(409, &problem(409, "reservation-voided", &json!({}))).await;
    assert_eq!(voided, Answer::Refused(Refusal::ReservationVoided));
}

/// A recorded decision executes as recorded, also when a later release added members to its inputs. The version of a rule
/// fixes the members that it reads, so other members cannot change it.
#[test]
fn a_member_of_a_later_release_in_a_decisions_inputs_changes_no_decision() {
    let stock = json!({"held": 0, "on_hand": 5, "version": 1});
    let requested = json!({"sku": "A", "quantity": 1, "stock": stock});
    let held = json!({"order_id": ID, "lines": [line()], "state": "held", "version": 1, "now": TIME, "expires_at": TIME});
    let reply = |kind: Value| json!({"state": "reserving", "reply": kind});
    let short = json!([{"sku": "A", "requested": 2, "available": 1}]);
    let intend = json!({"state": "reserved", "wish": "confirm", "reservation_id": ID, "expires_at": TIME,
        "deadline_left_ms": 1, "if_unknown": "x"});
    let expire = json!({"state": "reserved", "reservation": "expired", "expires_at": TIME});
    let samples = [
        (
            "order.place@1",
            json!({"customer_id": "1", "deadline_left_ms": 1, "hold_seconds": 1, "if_unknown": "x",
            "lines": [line()], "reservation_id": ID}),
        ),
        ("order.intend@1", intend.clone()),
        ("order.intend@2", intend),
        ("order.answered@1", reply(json!({"kind": "held", "expires_at": TIME}))),
        ("order.answered@1", reply(json!({"kind": "insufficient_stock", "short_lines": short}))),
        ("order.answered@1", reply(json!({"kind": "unknown_sku", "skus": ["A"]}))),
        ("order.answered@1", reply(json!({"kind": "reservation_voided"}))),
        ("order.answered@1", reply(json!({"kind": "nothing", "seen": "x"}))),
        ("order.lapse@1", expire.clone()),
        ("order.expire@1", expire),
        (
            "inventory.reserve@1",
            json!({"hold_seconds": 1, "lines": [requested], "now": TIME, "order_id": ID}),
        ),
        ("inventory.confirm@1", held.clone()),
        ("inventory.expire@1", held.clone()),
        ("inventory.release@1", held),
        ("inventory.create_item@1", json!({"sku": "A", "name": "a", "quantity": 1, "state": null})),
        ("inventory.receive@1", json!({"sku": "A", "quantity": 1, "state": "stocked", "stock": stock})),
    ];
    let replay = |rule: &str, inputs: &Value| {
        if rule.starts_with("order.") {
            order_service::domain::decisions::replay(rule, inputs)
        } else {
            inventory_service::domain::replay(rule, inputs)
        }
    };
    for (rule, inputs) in samples {
        let decided = replay(rule, &inputs).unwrap_or_else(|error| panic!("{rule}: {error}"));
        for (path, extended) in extended(&inputs) {
            assert_eq!(replay(rule, &extended).ok().as_ref(), Some(&decided), "{rule} {path}");
        }
    }
}

/// Checks that `T` refuses the unknown member at every level of `sample`.
fn refuses<T: DeserializeOwned>(sample: &Value) {
    assert!(serde_json::from_value::<T>(sample.clone()).is_ok(), "{sample}");
    for (path, extended) in extended(sample) {
        let error = serde_json::from_value::<T>(extended).err().map(|error| error.to_string());
        assert!(error.as_deref().is_some_and(|text| text.contains(UNKNOWN)), "{path} of {sample}: {error:?}");
    }
}

fn basket() -> Value {
    json!({"customer_id": "17850", "lines": [line(), {"sku": "B", "quantity": 2}]})
}

#[test]
fn a_member_of_a_later_release_is_refused_at_every_level_of_every_request() {
    refuses::<PlaceOrder>(&basket());
    refuses::<CreateItem>(&json!({"sku": "A", "name": "a", "on_hand": 1}));
    refuses::<Receipt>(&json!({"quantity": 1}));
    refuses::<ReserveRequest>(
        &json!({"reservation_id": ID, "order_id": ID, "lines": [line()], "hold_seconds": 1}),
    );
}

#[tokio::test]
async fn a_request_with_an_unknown_member_is_refused_with_the_members_path_and_changes_nothing() {
    let pair = pair().await;
    for (path, extended) in extended(&basket()) {
        let reply = pair.client().post("/v1/orders").json(&extended).send().await.unwrap().expect(422);
        let errors = reply.json()["errors"].clone();
        let field = errors[0]["field"].as_str().unwrap_or_default().to_owned();
        let line = path.strip_prefix("/lines/").map_or(String::new(), |n| format!("lines[{n}]"));
        assert!(field.starts_with(&line) && errors.to_string().contains(UNKNOWN), "{path}: {errors}");
    }
    for command in ["confirm", "cancel"] {
        let call = pair.client().post(&format!("/v1/orders/{ID}/{command}")).json(&json!({UNKNOWN: 1}));
        call.send().await.unwrap().expect(422);
    }
    let operator = pair.client_of(local::Service::Inventory, 0, Who::Operator);
    let item = json!({"sku": "D", "name": "d", "on_hand": 1, UNKNOWN: 1});
    operator.post("/v1/items").json(&item).send().await.unwrap().expect(422);
    operator
        .post("/v1/items/A/receipts")
        .json(&json!({"quantity": 1, UNKNOWN: 1}))
        .send()
        .await
        .unwrap()
        .expect(422);
    let orders = pair.client().get("/v1/orders").send().await.unwrap().expect(200).json();
    assert_eq!(orders["items"], json!([]));
    assert_eq!(StatusCode::NOT_FOUND, operator.get("/v1/items/D").send().await.unwrap().status);
}
