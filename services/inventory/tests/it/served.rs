//! Test setup: a running service in this process, and a client of each role.

use std::time::Duration;

use chassis::config::{CommonConfig, ProcessConfig};
use chassis::events::EventSettings;
use chassis::server::Signals;
use chassis::{Secret, Tokens};
use inventory_service::config::Config;
use inventory_service::startup;
use journal::entry::hash;
use journal::hex;
use serde_json::{Value, json};
use testkit::http::{Call, Client, Reply};
use uuid::Uuid;

use crate::support::Stage;

pub struct Served {
    pub stage: Stage,
    pub base: String,
    /// Clients of the public listener, by role.
    pub client: Client,
    pub service: Client,
    pub operator: Client,
    pub anonymous: Client,
    /// An operator's client of the operations listener.
    pub ops: Client,
    pub ops_anonymous: Client,
    pub ops_client: Client,
    lifecycle: chassis::server::Lifecycle,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.lifecycle.abort();
    }
}

pub fn config(stage: &Stage, faults_enabled: bool) -> Config {
    let line = |role: &str| format!("{role} the-{role} {}\n", hex(&hash(token(role).as_bytes())));
    let tokens = ["client", "service", "operator"].map(line).concat();
    let any = "127.0.0.1:0".parse().unwrap();
    let common = CommonConfig {
        database_url: Secret::new(stage.options.clone()),
        database_connections: 16,
        quota: None,
        events: EventSettings::default(),
        process: ProcessConfig {
            listen_addr: any,
            ops_listen_addr: any,
            otlp_endpoint: None,
            log_filter: "info".to_owned(),
            environment: "test".to_owned(),
            good_reads: std::num::NonZeroU32::MIN,
            max_connections: 64,
            shutdown_grace: Duration::from_secs(10),
            exit_with_stdin: false,
        },
        tokens: Tokens::parse(&tokens).unwrap(),
        faults_enabled,
    };
    Config { common, hash: "00".to_owned() }
}

pub fn token(role: &str) -> String {
    format!("a-token-of-the-{role}")
}

impl Served {
    pub async fn with(items: &[(&str, i64)]) -> Self {
        let stage = Stage::with(items).await;
        let config = config(&stage, false);
        Self::start(stage, config).await
    }

    pub async fn start(stage: Stage, config: Config) -> Self {
        let application = startup::build(config).await.unwrap();
        let base = format!("http://{}", application.address());
        let ops = format!("http://{}", application.ops_address());
        let lifecycle = application.lifecycle.clone();
        tokio::spawn(application.run(Signals::none()));
        let of = |base: &str, role: &str| Client::new(base).token(&token(role));
        Self {
            client: of(&base, "client"),
            service: of(&base, "service"),
            operator: of(&base, "operator"),
            anonymous: Client::new(&base),
            ops: of(&ops, "operator"),
            ops_client: of(&ops, "client"),
            ops_anonymous: Client::new(&ops),
            base,
            stage,
            lifecycle,
        }
    }

    pub fn stop(&self) {
        self.lifecycle.stop();
    }

    pub fn reserve(&self, id: Uuid, sku: &str, quantity: i64) -> Call {
        self.service.post("/v1/reservations").json(&reserve_body(id, sku, quantity))
    }

    pub fn confirm(&self, id: Uuid) -> Call {
        self.service.post(&format!("/v1/reservations/{id}/confirm"))
    }

    pub fn release(&self, id: Uuid) -> Call {
        self.service.post(&format!("/v1/reservations/{id}/release"))
    }
}

pub fn reserve_body(id: Uuid, sku: &str, quantity: i64) -> Value {
    json!({
        "reservation_id": id, "order_id": Uuid::new_v5(&id, b"order"), "hold_seconds": 900,
        "lines": [{"sku": sku, "quantity": quantity}],
    })
}

/// Sends a request and gives its reply; panics without one.
pub async fn reply(call: Call) -> Reply {
    call.send().await.unwrap_or_else(|error| panic!("no answer: {error}"))
}
