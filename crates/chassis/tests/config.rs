//! Settings as a process gets them: from its environment and its command line.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output, Stdio};

use chassis::config::{Check, CommonArgs, CommonConfig, Defaults};
use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
}

const DEFAULTS: Defaults = Defaults { listen_addr: "127.0.0.1:8080", ops_listen_addr: "127.0.0.1:9080" };

/// Not a test of its own: the process that the tests configure. Flags come in a variable, since the arguments are
/// the test harness's.
#[test]
fn a_configured_process() {
    let Ok(flags) = std::env::var("CHASSIS_TEST_FLAGS") else { return };
    let cli = Cli::parse_from(std::iter::once("service").chain(flags.split_whitespace()));
    let mut check = Check::new();
    let common = CommonConfig::read(&cli.common, DEFAULTS, &mut check);
    let hash = check.settings_hash();
    match check.finish(|| common) {
        Ok(config) => println!("hash={hash} {:?} {config:?}", cli.common),
        Err(problems) => {
            let code = problems.exit();
            assert_eq!(code, std::process::ExitCode::from(2));
            std::process::exit(2);
        }
    }
}

fn configured(environment: &[(&str, &str)], flags: &str) -> Output {
    let tokens = format!("{}/tests/data/tokens", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "a_configured_process", "--nocapture", "--quiet"])
        .env_clear()
        .env("CHASSIS_TEST_FLAGS", flags)
        .env("DATABASE_URL", "postgres://role:hunter2@127.0.0.1:5432/mainstay_order")
        .env("AUTH_TOKENS_FILE", tokens)
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    command.output().unwrap()
}

fn printed(environment: &[(&str, &str)], flags: &str) -> String {
    let output = configured(environment, flags);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn defaults_hold_flags_win_over_the_environment_and_an_empty_variable_is_absent() {
    let text = printed(&[("RUST_LOG", ""), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")], "");
    assert!(text.contains("listen_addr: 127.0.0.1:8080, ops_listen_addr: 127.0.0.1:9080"), "{text}");
    assert!(text.contains("otlp_endpoint: None, log_filter: \"info\""), "{text}");
    assert!(text.contains("faults_enabled: false"), "{text}");
    let environment =
        [("LISTEN_ADDR", "127.0.0.1:1"), ("OPS_LISTEN_ADDR", "127.0.0.1:2"), ("FAULTS_ENABLED", "true")];
    let text = printed(&environment, "--listen-addr 127.0.0.1:3 --faults-enabled=false");
    assert!(text.contains("listen_addr: 127.0.0.1:3, ops_listen_addr: 127.0.0.1:2"), "{text}");
    assert!(text.contains("faults_enabled: false"), "{text}");
    assert!(printed(&[], "--faults-enabled").contains("faults_enabled: true"));
}

#[test]
fn every_problem_is_listed_at_once_and_the_exit_code_is_2() {
    let output = configured(
        &[
            ("DATABASE_URL", "mysql://role:hunter2@h/d"),
            ("AUTH_TOKENS_FILE", "/nowhere/tokens"),
            ("LISTEN_ADDR", "localhost"),
            ("RUST_LOG", "order=loud"),
            ("FAULTS_ENABLED", "perhaps"),
            ("EVIDENCE_DIR", "/dev/null/events"),
            ("EVIDENCE_BUDGET", "little"),
            ("DEPLOYMENT_ENVIRONMENT", "two words"),
            ("CLOUD_REGION", "two words"),
        ],
        "--database-connections 0 --principal-quota none --max-connections 0 --shutdown-seconds soon --otel-exporter-otlp-endpoint ftp://h",
    );
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("14 problems"), "{text}");
    for name in [
        "DATABASE_URL",
        "AUTH_TOKENS_FILE",
        "LISTEN_ADDR",
        "RUST_LOG",
        "FAULTS_ENABLED",
        "DATABASE_CONNECTIONS",
        "MAX_CONNECTIONS",
        "PRINCIPAL_QUOTA",
        "SHUTDOWN_SECONDS",
        "EVIDENCE_DIR",
        "EVIDENCE_BUDGET",
        "DEPLOYMENT_ENVIRONMENT",
        "CLOUD_REGION",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ] {
        assert!(text.contains(&format!("\n  {name}: ")), "{name} is missing from {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn one_address_for_both_listeners_is_a_problem() {
    let output = configured(&[("LISTEN_ADDR", "127.0.0.1:7"), ("OPS_LISTEN_ADDR", "127.0.0.1:7")], "");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("OPS_LISTEN_ADDR: 127.0.0.1:7 is LISTEN_ADDR too"), "{text}");
}

#[test]
fn no_secret_is_printed_even_by_debug() {
    let text = printed(&[], "");
    assert!(text.contains("Secret(…)") && !text.contains("hunter2"), "{text}");
    let help = configured(&[], "--help");
    assert!(!String::from_utf8_lossy(&help.stdout).contains("hunter2"));
}

#[test]
fn the_hash_changes_with_a_setting_and_not_with_a_secret() {
    let hash = |environment: &[(&str, &str)], flags: &str| {
        let text = printed(environment, flags);
        text.split("hash=").nth(1).unwrap()[..64].to_owned()
    };
    let plain = hash(&[], "");
    assert_eq!(hash(&[("DATABASE_URL", "postgres://other:secret@127.0.0.1:5432/mainstay_order")], ""), plain);
    assert_eq!(hash(&[("LISTEN_ADDR", "127.0.0.1:8080")], ""), plain);
    assert_ne!(hash(&[], "--listen-addr 127.0.0.1:8090"), plain);
}
