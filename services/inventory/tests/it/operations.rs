//! Tests of the operations listener, of the periodic sweep, and of the program's commands.

use std::ffi::OsString;
use std::process::Command;

use serde_json::{Value, json};
use testkit::eventually;
use testkit::http::Reply;
use uuid::Uuid;

use crate::served::{Served, config, reply};
use crate::support::{PATIENCE, Stage};

#[tokio::test]
async fn probes_and_metrics_need_no_token_and_administration_needs_an_operator_token() {
    let served = Served::with(&[("a", 10)]).await;
    reply(served.ops_anonymous.get("/livez")).await.expect(200);
    let ready = reply(served.ops_anonymous.get("/readyz")).await.expect(200).json();
    assert_eq!(ready["status"], "ready");
    for path in ["journal", "breakers"] {
        let path = format!("/admin/v1/{path}");
        reply(served.ops_anonymous.get(&path)).await.expect(401);
        reply(served.ops_client.get(&path)).await.expect(403);
        reply(served.ops.get(&path)).await.expect(200);
    }
    reply(served.ops_anonymous.post("/admin/v1/reconcile")).await.expect(401);
    reply(served.ops_client.post("/admin/v1/reconcile")).await.expect(403);
    let breakers = reply(served.ops.get("/admin/v1/breakers")).await.expect(200).json();
    assert_eq!(breakers["items"], json!([]), "inventory calls no other service");
    reply(served.ops.get("/admin/v1/faults")).await.expect(404);
}

#[tokio::test]
async fn a_service_without_its_schema_is_alive_and_not_ready() {
    let stage = Stage::new().await;
    sqlx::query("UPDATE _sqlx_migrations SET success = false WHERE version = 2")
        .execute(&stage.admin)
        .await
        .unwrap();
    let config = config(&stage, false);
    let served = Served::start(stage, config).await;
    eventually("readiness names the schema", PATIENCE, || async {
        let not_ready = reply(served.ops_anonymous.get("/readyz")).await.expect(503).json();
        not_ready["conditions"][1]["name"] == "schema"
    })
    .await;
    reply(served.ops_anonymous.get("/livez")).await.expect(200);
}

#[tokio::test]
async fn readiness_names_a_read_only_database_until_the_setting_is_reset() {
    let stage = Stage::new().await;
    let (admin, name) = (stage.admin.clone(), stage.database.name().to_owned());
    let alter = async |setting: &str| {
        let alter = format!("ALTER ROLE mainstay_inventory IN DATABASE {name} {setting}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(alter)).execute(&admin).await.unwrap();
    };
    alter("SET default_transaction_read_only = on").await;
    let config = config(&stage, false);
    let served = Served::start(stage, config).await;
    // On a busy machine the first probe may not get an answer from the database in time.
    eventually("readiness names the cause", PATIENCE, || async {
        let not_ready = reply(served.ops_anonymous.get("/readyz")).await.expect(503).json();
        let database = &not_ready["conditions"][0];
        assert_eq!(database["name"], "database");
        let detail = database["detail"].as_str().unwrap();
        if detail.starts_with("read-only") { Ok(()) } else { Err(detail.to_owned()) }
    })
    .await;
    alter("RESET default_transaction_read_only").await;
    // The session of the first probe is still in the pool, and still read-only.
    reply(served.ops_anonymous.get("/readyz")).await.expect(200);
}

#[tokio::test]
async fn the_journal_is_read_in_order_and_by_filters() {
    let served = Served::with(&[("a", 10)]).await;
    let id = Uuid::now_v7();
    reply(served.reserve(id, "a", 1).key("the key to be found").correlation("story-7")).await.expect(201);
    reply(served.confirm(id)).await.expect(200);
    let states = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| item["entry"]["to"].as_str().unwrap().to_owned()).collect()
    };
    let first = reply(served.ops.get("/admin/v1/journal?limit=2")).await.expect(200).json();
    assert_eq!((&first["service"], &first["more"]), (&json!("inventory"), &json!(true)));
    let next = first["next"].as_str().unwrap();
    let rest = reply(served.ops.get(&format!("/admin/v1/journal?after={next}"))).await.expect(200);
    assert_eq!([states(&first), states(&rest.json())].concat(), ["stocked", "held", "confirmed"]);
    let rest: journal::feed::Page = serde_json::from_slice(&rest.body).unwrap();
    let item = &rest.items[0];
    let entry_of: journal::Entry = serde_json::from_str(item.entry.get()).unwrap();
    assert_eq!(journal::hex(&journal::entry::hash(item.entry.get().as_bytes())), item.hash);

    let key = journal::hex(journal::KeyHash::of("the key to be found").as_bytes());
    for (filter, expected) in [
        (format!("aggregate_id={id}"), vec!["held", "confirmed"]),
        ("correlation_id=story-7".to_owned(), vec!["held"]),
        (format!("key_hash={key}"), vec!["held", "confirmed"]),
        (format!("trace_id={}", entry_of.trace_id.unwrap()), vec!["confirmed"]),
    ] {
        let page = reply(served.ops.get(&format!("/admin/v1/journal?{filter}"))).await.expect(200).json();
        assert_eq!(states(&page), expected, "{filter}");
    }
    for (name, value) in [
        ("aggregate_id", "7"),
        ("correlation_id", "%00"),
        ("correlation_id", "no such id"),
        ("trace_id", "%00"),
        ("trace_id", "3A2CB84407D34FABAC88B6C2622291CF"),
        ("key_hash", "%00"),
    ] {
        let path = format!("/admin/v1/journal?{name}={}", value.replace(' ', "+"));
        let refused = reply(served.ops.get(&path)).await.expect(400).json();
        assert_eq!(refused["errors"][0]["field"], name, "{path}");
    }
}

#[tokio::test]
async fn the_periodic_sweep_expires_holds_and_an_operator_can_expire_them_at_once() {
    let served = Served::with(&[("a", 10)]).await;
    let by_itself = served.stage.hold(&[("a", 1)]).await;
    served.stage.let_end(by_itself).await;
    eventually("the sweep expires the hold", PATIENCE, || async {
        served.stage.status(by_itself).await.as_deref() == Some("expired")
    })
    .await;
    assert_eq!(served.stage.entries(Some(by_itself)).await[1].principal, "sweep:expiry");

    // The periodic sweep may come first, so this is repeated until the operator's request does.
    let by_hand = eventually("the operator's request comes first", PATIENCE, || async {
        let id = served.stage.hold(&[("a", 1)]).await;
        served.stage.let_end(id).await;
        let swept = reply(served.ops.post("/admin/v1/reconcile")).await.expect(200).json();
        (swept == json!({"taken": 1, "moved": 1})).then_some(id)
    })
    .await;
    assert_eq!(served.stage.entries(Some(by_hand)).await[1].principal, "operator:the-operator");
    served.stage.assert_sound().await;
}

#[tokio::test]
async fn a_fault_can_be_injected_when_faults_are_enabled() {
    let stage = Stage::with(&[("a", 10)]).await;
    let config = config(&stage, true);
    let served = Served::start(stage, config).await;
    let points = reply(served.ops.get("/admin/v1/faults")).await.expect(200).json();
    assert_eq!(points["items"][0]["name"], "inventory-server");
    reply(served.client.get("/v1/items/a")).await.expect(200);
}

#[tokio::test]
async fn a_stopping_service_finishes_the_requests_in_flight() {
    let served = Served::with(&[("a", 10)]).await;
    let id = Uuid::now_v7();
    let mut holder = served.stage.admin.begin().await.unwrap();
    sqlx::query("SELECT FROM items FOR UPDATE").execute(&mut *holder).await.unwrap();
    let begun = served.reserve(id, "a", 1).deadline(PATIENCE);
    let (reply, ()) = tokio::join!(async { reply(begun).await }, async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("the request waits for the lock", PATIENCE, || async {
            sqlx::query_scalar::<_, i64>(waiting).fetch_one(&served.stage.admin).await.unwrap() == 1
        })
        .await;
        served.stop();
        holder.rollback().await.unwrap();
    });
    let reply: Reply = reply.expect(201);
    assert_eq!(reply.json()["status"], "held");
    served.stage.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_slow_feed_readers_leave_connections_for_reservations_and_readiness() {
    let served = Served::with(&[("a", 100)]).await;
    // A session that only reads the journal is slow.
    let slow = "ALTER TABLE journal ENABLE ROW LEVEL SECURITY;
        CREATE POLICY slow ON journal USING (current_query() LIKE '%INSERT%' OR pg_sleep(60) IS NULL) WITH CHECK (true)";
    sqlx::raw_sql(slow).execute(&served.stage.admin).await.unwrap();
    let readers: Vec<_> = (0..16)
        .map(|_| tokio::spawn(served.ops.get("/admin/v1/journal").deadline(PATIENCE).send()))
        .collect();
    let sleeping = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let sleeping = || sqlx::query_scalar::<_, i64>(sleeping).fetch_one(&served.stage.admin);
    eventually("the readers read", PATIENCE, || async { sleeping().await.unwrap() >= 3 }).await;
    for _ in 0..10 {
        reply(served.reserve(Uuid::now_v7(), "a", 1)).await.expect(201);
        reply(served.ops_anonymous.get("/readyz")).await.expect(200);
    }
    assert_eq!(sleeping().await.unwrap(), 3, "and they still do");
    readers.iter().for_each(tokio::task::JoinHandle::abort);
}

/// The program itself, as a container runs it.
fn program(arguments: &[&str], environment: &[(&str, OsString)]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay-inventory"));
    command.args(arguments).env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    command.output().unwrap()
}

#[test]
fn a_wrong_configuration_is_reported_with_all_faults_and_nothing_starts() {
    let output = program(&["--listen-addr", "nowhere"], &[("SHUTDOWN_SECONDS", "never".into())]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for name in ["DATABASE_URL", "AUTH_TOKENS_FILE", "LISTEN_ADDR", "SHUTDOWN_SECONDS"] {
        assert!(said.contains(name), "{name} in {said}");
    }
}

#[test]
fn the_program_prints_the_description_that_it_serves() {
    let output = program(&["openapi"], &[]);
    assert!(output.status.success());
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(document["paths"]["/v1/reservations"]["post"].is_object());
}

#[test]
fn a_healthcheck_without_a_service_fails() {
    let output = program(&["healthcheck", "--ops-listen-addr", "127.0.0.1:1"], &[]);
    assert!(!output.status.success());
}

#[tokio::test]
async fn the_program_migrates_as_the_owner() {
    let stage = Stage::new().await;
    let url = OsString::from(stage.database.owner_url());
    let output = program(&["migrate"], &[("MIGRATION_DATABASE_URL", url)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1002"));
    assert_eq!(program(&["migrate"], &[]).status.code(), Some(2));
}
