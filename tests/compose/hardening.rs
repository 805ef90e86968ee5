//! What the containers may do, as docker says and as the kernel does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::House;

/// The containers that go on running.
const RUNNING: [&str; 3] = ["postgres", "order", "inventory"];

pub(crate) async fn no_process_is_root_or_can_become_it(house: &House) {
    for (name, container) in house.stack.containers().await {
        let user = container["Config"]["User"].as_str().unwrap();
        assert!(!matches!(user, "" | "root" | "0") && !user.starts_with("0:"), "{name} runs as {user:?}");
        let host = &container["HostConfig"];
        assert_eq!(host["Privileged"], false, "{name}");
        assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(host["CapAdd"], Value::Null, "{name}");
        assert_eq!(host["SecurityOpt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
    }
    for name in RUNNING {
        // A process that ends while it is read is none that runs.
        let status = house.stack.shell(name, "cat /proc/[0-9]*/status 2>/dev/null || true").await.unwrap();
        let field = |name: &str| {
            status.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim).collect::<Vec<_>>()
        };
        assert!(field("Pid:").contains(&"1"), "{status}");
        for user in field("Uid:").into_iter().flat_map(str::split_whitespace) {
            assert_ne!(user, "0", "a process of {name} is root's\n{status}");
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

pub(crate) async fn root_file_systems_are_read_only(house: &House) {
    for (name, container) in house.stack.containers().await {
        assert_eq!(container["HostConfig"]["ReadonlyRootfs"], true, "{name}");
    }
    for name in RUNNING {
        // A directory that is anybody's, so that nothing but the file system forbids it.
        let written = house.stack.shell(name, ": >/var/tmp/probe").await;
        let refused = written.expect_err(name).to_string();
        assert!(refused.contains("Read-only file system"), "{name}: {refused}");
    }
}

pub(crate) async fn every_container_has_limits(house: &House) {
    for (name, container) in house.stack.containers().await {
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

pub(crate) async fn nothing_is_published_beyond_loopback(house: &House) {
    let mut published = BTreeSet::new();
    for (name, container) in house.stack.containers().await {
        let ports = container["NetworkSettings"]["Ports"].as_object().cloned().unwrap_or_default();
        for (port, bindings) in ports {
            for binding in bindings.as_array().into_iter().flatten() {
                assert_eq!(binding["HostIp"], "127.0.0.1", "{name}: {port}");
                published.insert(binding["HostPort"].as_str().unwrap().parse().unwrap());
            }
        }
    }
    assert_eq!(published, house.stack.ports());
}

pub(crate) async fn the_database_is_on_a_network_that_reaches_nothing_else(house: &House) {
    let postgres = house.stack.inspect("postgres").await;
    let networks: Vec<_> = postgres["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
    let [network] = networks[..] else { panic!("PostgreSQL is on {networks:?}") };
    let inspected = house.stack.docker(&["network", "inspect", network]).await.unwrap();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected[0]["Internal"], true, "{network}");
}

pub(crate) async fn no_secret_shows_and_each_service_has_only_its_own(house: &House) {
    let secrets = secrets(house).await;
    let mut shown = vec![("docker logs", house.stack.compose(&["logs", "--no-color"]).await.unwrap())];
    for (_, container) in house.stack.containers().await {
        let image = container["Image"].as_str().unwrap().to_owned();
        shown.push(("docker inspect", container.to_string()));
        shown
            .push(("docker image inspect", house.stack.docker(&["image", "inspect", &image]).await.unwrap()));
        shown.push(("docker history", house.stack.docker(&["history", "--no-trunc", &image]).await.unwrap()));
    }
    for (name, secret) in &secrets {
        for (place, text) in &shown {
            assert!(!text.contains(secret), "{place} shows {name}");
        }
    }
    for (service, own) in [
        ("order", &["password-mainstay_order", "token-order"][..]),
        ("inventory", &["password-mainstay_inventory"]),
    ] {
        let files = house.stack.shell(service, "cat /run/mainstay/*").await.unwrap();
        let had = secrets.iter().filter(|(_, secret)| files.contains(*secret)).map(|(name, _)| name.as_str());
        assert_eq!(had.collect::<Vec<_>>(), own, "the secrets of {service}");
    }
}

/// Every secret by its name, from the one volume that has them all.
async fn secrets(house: &House) -> BTreeMap<String, String> {
    let print = r#"cd /credentials/all && for name in *; do echo "$name $(cat "$name")"; done"#;
    let run = ["run", "--rm", "-T", "--entrypoint", "sh", "credentials", "-c", print];
    let printed = house.stack.compose(&run).await.unwrap();
    let secrets: BTreeMap<_, _> = printed
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(name, secret)| (name.to_owned(), secret.to_owned()))
        .collect();
    assert!(secrets.values().all(|secret| secret.len() >= 32), "{:?}", secrets.keys());
    assert_eq!(secrets.len(), 9, "{:?}", secrets.keys());
    secrets
}
