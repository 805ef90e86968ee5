//! Databases of an older release: this release opens them, verifies them, replays their keys, and goes on.
//!
//! `tests/fixtures/release-0.1.0` holds dumps of both databases and the requests that made them, each with its reply.

use std::path::{Path, PathBuf};

use checker::postgres::under_way;
use local::{Postgres, PostgresOptions, Service, provision};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use testkit::eventually;
use testkit::http::Client;

use crate::restored::{assert_sound, run, started};
use crate::support::RESOLVED;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/release-0.1.0").join(name)
}

/// A cluster with both databases as the dumps have them.
async fn restored() -> Postgres {
    let postgres = Postgres::start(PostgresOptions::for_tests()).await.unwrap();
    let admin = postgres.connect_options("postgres");
    for service in Service::BOTH {
        let name = service.serving_role();
        let passwords = provision::roles(&admin, service).await.unwrap();
        provision::database(&admin, service, name, &passwords).await.unwrap();
        let file = fixture(&format!("{service}.sql"));
        let (url, file) = (postgres.url(name), file.to_str().unwrap());
        let quietly = ["--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1"];
        run("psql", &[&quietly[..], &["--file", file, "--dbname", &url]].concat()).await;
        // A key is kept for seven days after its reply. The dump is older, so its keys are given a new time.
        let mut session = PgConnection::connect(&url).await.unwrap();
        let renew = "UPDATE idempotency SET completed_at = now() WHERE completed_at IS NOT NULL";
        sqlx::query(renew).execute(&mut session).await.unwrap();
        session.close().await.unwrap();
    }
    postgres
}

#[tokio::test]
async fn the_databases_of_an_older_release_open_verify_replay_their_keys_and_go_on() {
    let postgres = restored().await;
    let pair = started(&postgres).await;
    let ready = pair.ready();

    eventually("every order that the older release left undecided is decided", RESOLVED, async || {
        let mut order = PgConnection::connect(&ready.databases.order).await.unwrap();
        let mut inventory = PgConnection::connect(&ready.databases.inventory).await.unwrap();
        under_way(&mut order, &mut inventory).await.unwrap().map_or(Ok(()), Err)
    })
    .await;
    assert_sound(&ready).await;

    let requests = std::fs::read_to_string(fixture("requests.jsonl")).unwrap();
    let requests: Vec<Value> = requests.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(requests.len() > 20, "{}", requests.len());
    for request in requests {
        let text = |name: &str| request[name].as_str().unwrap();
        let base = if text("service") == "order" { &ready.order } else { &ready.inventory };
        let token = match text("who") {
            "client" => &ready.tokens.client,
            "client2" => &ready.tokens.client2,
            _ => &ready.tokens.operator,
        };
        let call = Client::new(base).token(token).post(text("path")).key(text("key"));
        let reply = call.json(&request["body"]).send().await.unwrap();
        if request["status"] == 202 {
            // The key of a command that was undecided has its final reply now.
            assert!(reply.status != 202 && reply.is_replayed(), "{request}: {reply}");
            continue;
        }
        assert_eq!(request["status"], reply.status.as_u16(), "{request}: {reply}");
        assert_eq!(text("reply").as_bytes(), &reply.body[..], "byte for byte: {request}");
        assert!(reply.is_replayed(), "{request}: {reply}");
    }

    let client = Client::new(&ready.order).token(&ready.tokens.client);
    let basket = json!({"customer_id": "17850", "lines": [{"sku": "MUG", "quantity": 1}]});
    eventually("a new order", RESOLVED, async || {
        let reply = client.post("/v1/orders").json(&basket).send().await.unwrap();
        if reply.status == 201 { Ok(()) } else { Err(reply) }
    })
    .await;
    assert_sound(&ready).await;
    pair.stop().await.unwrap();
    postgres.stop().await.unwrap();
}
