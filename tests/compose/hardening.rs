//! Tests of the containers' limits, from docker's settings and from the kernel's values in the containers.

use std::collections::{BTreeMap, BTreeSet};

use local::Service;
use serde_json::Value;
use testkit::Client;

use crate::Fixture;

/// Services whose containers keep running.
const RUNNING: [&str; 3] = ["postgres", "order", "inventory"];

pub(crate) async fn no_image_can_inject_faults(fixture: &Fixture) {
    for service in Service::BOTH {
        let operator = Client::new(&fixture.stack.ops_url(service)).token(fixture.shop.operator_token());
        operator.get("/admin/v1/faults").send().await.unwrap().expect(404);
        let line = format!("FAULTS_ENABLED=true mainstay-{service} --check-config 2>&1 || true");
        let answer = fixture.stack.shell(service.name(), &line).await.unwrap();
        assert!(answer.contains("built without fault injection"), "{service}: {answer}");
    }
}

pub(crate) async fn no_process_runs_as_root_or_can_become_root(fixture: &Fixture) {
    for (name, container) in fixture.stack.containers().await {
        let user = container["Config"]["User"].as_str().unwrap();
        assert!(!matches!(user, "" | "root" | "0") && !user.starts_with("0:"), "{name} runs as {user:?}");
        let host = &container["HostConfig"];
        assert_eq!(host["Privileged"], false, "{name}");
        assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(host["CapAdd"], Value::Null, "{name}");
        assert_eq!(host["SecurityOpt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
    }
    for name in RUNNING {
        // A process may end while it is read. Ignore that error.
        let status = fixture.stack.shell(name, "cat /proc/[0-9]*/status 2>/dev/null || true").await.unwrap();
        let field = |name: &str| {
            status.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim).collect::<Vec<_>>()
        };
        assert!(field("Pid:").contains(&"1"), "{status}");
        for user in field("Uid:").into_iter().flat_map(str::split_whitespace) {
            assert_ne!(user, "0", "a process of {name} runs as root\n{status}");
        }
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            let all: BTreeSet<_> = field(set).into_iter().collect();
            assert_eq!(all, BTreeSet::from(["0000000000000000"]), "{set} of {name}");
        }
        assert_eq!(
            field("NoNewPrivs:").into_iter().collect::<BTreeSet<_>>(),
            BTreeSet::from(["1"]),
            "{name}"
        );
    }
}

pub(crate) async fn root_file_systems_are_read_only(fixture: &Fixture) {
    for (name, container) in fixture.stack.containers().await {
        assert_eq!(container["HostConfig"]["ReadonlyRootfs"], true, "{name}");
    }
    for name in RUNNING {
        // Every user may write to this directory, so only a read-only file system can refuse.
        let written = fixture.stack.shell(name, ": >/var/tmp/probe").await;
        let refused = written.expect_err(name).to_string();
        assert!(refused.contains("Read-only file system"), "{name}: {refused}");
    }
}

pub(crate) async fn every_container_has_limits(fixture: &Fixture) {
    for (name, container) in fixture.stack.containers().await {
        let host = &container["HostConfig"];
        for limit in ["Memory", "NanoCpus", "PidsLimit"] {
            assert!(
                host[limit].as_i64().is_some_and(|limit| limit > 0),
                "{name}: {limit} is {}",
                host[limit]
            );
        }
        let log = &host["LogConfig"]["Config"];
        assert!(log["max-size"].is_string() && log["max-file"].is_string(), "{name}: {log}");
    }
}

pub(crate) async fn nothing_is_published_beyond_loopback(fixture: &Fixture) {
    let mut published = BTreeSet::new();
    for (name, container) in fixture.stack.containers().await {
        let ports = container["NetworkSettings"]["Ports"].as_object().cloned().unwrap_or_default();
        for (port, bindings) in ports {
            for binding in bindings.as_array().into_iter().flatten() {
                assert_eq!(binding["HostIp"], "127.0.0.1", "{name}: {port}");
                published.insert(binding["HostPort"].as_str().unwrap().parse().unwrap());
            }
        }
    }
    assert_eq!(published, fixture.stack.ports());
}

pub(crate) async fn the_database_is_on_a_network_that_reaches_nothing_else(fixture: &Fixture) {
    let postgres = fixture.stack.inspect("postgres").await;
    let networks: Vec<_> = postgres["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
    let [network] = networks[..] else { panic!("PostgreSQL is on the networks {networks:?}, expected one") };
    let inspected = fixture.stack.docker(&["network", "inspect", network]).await.unwrap();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected[0]["Internal"], true, "{network}");
}

pub(crate) async fn no_secret_is_visible_and_each_service_has_only_its_own(fixture: &Fixture) {
    let secrets = secrets(fixture).await;
    let mut shown = vec![("docker logs", fixture.stack.compose(&["logs", "--no-color"]).await.unwrap())];
    for (_, container) in fixture.stack.containers().await {
        let image = container["Image"].as_str().unwrap().to_owned();
        shown.push(("docker inspect", container.to_string()));
        shown.push((
            "docker image inspect",
            fixture.stack.docker(&["image", "inspect", &image]).await.unwrap(),
        ));
        shown.push((
            "docker history",
            fixture.stack.docker(&["history", "--no-trunc", &image]).await.unwrap(),
        ));
    }
    for (name, secret) in &secrets {
        for (command, text) in &shown {
            assert!(!text.contains(secret), "{command} shows {name}");
        }
    }
    for (service, own) in [
        ("order", &["password-mainstay_order", "token-order"][..]),
        ("inventory", &["password-mainstay_inventory"]),
    ] {
        let files = fixture.stack.shell(service, "cat /run/mainstay/*").await.unwrap();
        let had = secrets.iter().filter(|(_, secret)| files.contains(*secret)).map(|(name, _)| name.as_str());
        assert_eq!(had.collect::<Vec<_>>(), own, "the secrets of {service}");
    }
}

/// Every secret by its name, from the volume that holds all of them.
async fn secrets(fixture: &Fixture) -> BTreeMap<String, String> {
    let print = r#"cd /credentials/all && for name in *; do echo "$name $(cat "$name")"; done"#;
    let run = ["run", "--rm", "-T", "--entrypoint", "sh", "credentials", "-c", print];
    let printed = fixture.stack.compose(&run).await.unwrap();
    let secrets: BTreeMap<_, _> = printed
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(name, secret)| (name.to_owned(), secret.to_owned()))
        .collect();
    assert!(secrets.values().all(|secret| secret.len() >= 32), "{:?}", secrets.keys());
    assert_eq!(secrets.len(), 9, "{:?}", secrets.keys());
    secrets
}
