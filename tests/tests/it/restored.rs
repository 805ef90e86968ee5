//! Tests of a pair that starts over existing databases: restored from dumps, or expanded by a later release.

use std::path::Path;
use std::process::Stdio;

use crate::support::RESOLVED;
use checker::Rule;
use checker::postgres::dump_pair;
use local::pair::{PairOptions, Ready, RunningPair, Server};
use local::postgres::{DataLocation, binaries};
use local::{Postgres, PostgresOptions, Secret, Service, TemporaryDirectory, provision};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::eventually;
use testkit::http::{Client, Reply};

pub(crate) async fn started(postgres: &Postgres) -> RunningPair {
    let programs = pair_tests::programs(env!("CARGO_BIN_EXE_pair"));
    let location = DataLocation::TemporaryIn(std::env::temp_dir());
    let server = Server::Given { admin_url: Secret::new(postgres.url("postgres")), location };
    RunningPair::start(PairOptions { server, ..PairOptions::for_tests(programs) }).await.unwrap()
}

/// Consumes transaction ids of the cluster.
async fn burn(postgres: &Postgres, ids: i64) {
    let mut admin = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
    let burn =
        format!("DO $$ BEGIN FOR i IN 1..{ids} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$");
    sqlx::raw_sql(AssertSqlSafe(burn)).execute(&mut admin).await.unwrap();
}

pub(crate) async fn run(program: &str, arguments: &[&str]) {
    // Beside the server's, or on the path.
    let beside = binaries::find(None, None).unwrap().directory.join(program);
    let program = if beside.exists() { beside.as_os_str() } else { program.as_ref() };
    let mut command = tokio::process::Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output().await.unwrap();
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
}

/// Copies both databases from one server to another, with the tools of an operator.
async fn copy(from: &Postgres, to: &Postgres, scratch: &Path) {
    for service in Service::BOTH {
        let name = service.serving_role();
        let file = scratch.join(name);
        let file = file.to_str().unwrap();
        run("pg_dump", &["--format=custom", "--file", file, "--dbname", &from.url(name)]).await;
        let admin = to.connect_options("postgres");
        let passwords = provision::roles(&admin, service).await.unwrap();
        provision::database(&admin, service, name, &passwords).await.unwrap();
        run("pg_restore", &["--exit-on-error", "--dbname", &to.url(name), file]).await;
    }
}

async fn location(ready: &Ready) -> String {
    let client = Client::new(&ready.order).token(&ready.tokens.client);
    let basket = json!({"customer_id": "17850", "lines": [{"sku": "A", "quantity": 1}]});
    let id = eventually("an order", RESOLVED, async || {
        let reply = client.post("/v1/orders").json(&basket).send().await.unwrap();
        if reply.status == 201 { Ok(reply.json()["id"].as_str().unwrap().to_owned()) } else { Err(reply) }
    });
    id.await
}

async fn page(ready: &Ready, service: Service, after: Option<&str>) -> Reply {
    let operations = match service {
        Service::Order => &ready.order_ops,
        Service::Inventory => &ready.inventory_ops,
    };
    let operator = Client::new(operations).token(&ready.tokens.operator);
    let after = after.map(|cursor| format!("&after={cursor}")).unwrap_or_default();
    operator.get(&format!("/admin/v1/journal?limit=3{after}")).send().await.unwrap()
}

/// Reads the hashes of all entries after the cursor, and the cursor after them.
async fn read_on(ready: &Ready, service: Service, after: Option<&str>) -> (Vec<String>, String) {
    let (mut hashes, mut after) = (Vec::new(), after.map(str::to_owned));
    loop {
        let page: Value = page(ready, service, after.as_deref()).await.expect(200).json();
        let items = page["items"].as_array().unwrap();
        hashes.extend(items.iter().map(|item| item["hash"].as_str().unwrap().to_owned()));
        let next = page["next"].as_str().unwrap().to_owned();
        if page["more"] == false {
            return (hashes, next);
        }
        after = Some(next);
    }
}

/// Everything that `verify` checks of two databases.
pub(crate) async fn assert_sound(ready: &Ready) {
    let mut order = PgConnection::connect(&ready.databases.order).await.unwrap();
    let mut inventory = PgConnection::connect(&ready.databases.inventory).await.unwrap();
    let mut dump = dump_pair(&mut order, &mut inventory).await.unwrap();
    dump.observed.at_rest = true;
    let report = dump.check(&pair_tests::contract());
    report
        .require(&[Rule::ChainVerifies, Rule::FeedShowsJournal])
        .unwrap_or_else(|broken| panic!("{broken}"));
}

#[tokio::test]
async fn a_pair_restored_into_a_younger_cluster_has_its_whole_history_and_serves() {
    const OLDER_BY: i64 = 2_000;
    let older = Postgres::start(PostgresOptions::for_tests()).await.unwrap();
    burn(&older, OLDER_BY).await;
    let pair = started(&older).await;
    let ready = pair.ready();
    let item = json!({"sku": "A", "name": "A", "on_hand": 1_000});
    let operator = Client::new(&ready.inventory).token(&ready.tokens.operator);
    operator.post("/v1/items").json(&item).send().await.unwrap().expect(201);
    for _ in 0..4 {
        location(&ready).await;
    }
    let mut before = Vec::new();
    for service in Service::BOTH {
        before.push(read_on(&ready, service, None).await);
    }
    pair.stop().await.unwrap();

    let younger = Postgres::start(PostgresOptions::for_tests()).await.unwrap();
    let scratch = TemporaryDirectory::create_in(&std::env::temp_dir()).unwrap();
    copy(&older, &younger, scratch.path()).await;
    older.stop().await.unwrap();
    let pair = started(&younger).await;
    let ready = pair.ready();
    assert_sound(&ready).await;
    let mut tails = Vec::new();
    for (service, (entries, cursor)) in Service::BOTH.into_iter().zip(&before) {
        let (restored, tail) = read_on(&ready, service, None).await;
        assert_eq!(&restored, entries, "{service}: the history in its order");
        let refused = page(&ready, service, Some(cursor)).await;
        assert_eq!(refused.status.as_u16(), 410, "{refused}");
        tails.push((service, restored, tail));
    }
    // The loop runs before, while and after the cluster's own transaction ids reach the ids in the restored journal.
    for _ in 0..3 {
        location(&ready).await;
        for (service, known, tail) in &mut tails {
            let (new, next) = read_on(&ready, *service, Some(tail)).await;
            assert!(
                !new.is_empty() && new.iter().all(|hash| !known.contains(hash)),
                "{service}: each new entry once"
            );
            known.extend(new);
            *tail = next;
            assert_eq!(
                &read_on(&ready, *service, None).await.0,
                known,
                "{service}: no other entry, and none is lost"
            );
        }
        burn(&younger, OLDER_BY / 2 + 100).await;
    }
    assert_sound(&ready).await;
    pair.stop().await.unwrap();
    younger.stop().await.unwrap();
}

#[tokio::test]
async fn a_pair_starts_over_schemas_that_a_later_release_has_expanded() {
    let postgres = Postgres::start(PostgresOptions::for_tests()).await.unwrap();
    started(&postgres).await.stop().await.unwrap();
    for service in Service::BOTH {
        let mut admin = PgConnection::connect(&postgres.url(service.serving_role())).await.unwrap();
        let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
            VALUES (99, 'of the journal', true, 'x', 0), (1999, 'of the service', true, 'x', 0)";
        sqlx::query(later).execute(&mut admin).await.unwrap();
    }
    let pair = started(&postgres).await;
    assert_eq!(page(&pair.ready(), Service::Order, None).await.status, 200);
    pair.stop().await.unwrap();
    postgres.stop().await.unwrap();
}
