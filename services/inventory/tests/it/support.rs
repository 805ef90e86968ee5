//! Test setup: the use cases over a database of their own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use inventory_api::Line;
use inventory_service::app::{App, CommandContext, CommandError, CommandResult};
use inventory_service::domain::stock::Lines;
use inventory_service::domain::{NewItem, NewReservation, Receipt};
use inventory_service::http::replies::render;
use inventory_service::store::MIGRATIONS;
use journal::database::Limits;
use journal::{Database, Journal, KeyHash};
use local::Service;
use mainstay::RequestContext;
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use testkit::TestDatabase;
use testkit::proxy::TcpProxy;
use uuid::Uuid;

/// Longest wait of a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A test database, the use cases over it in the serving role, and a superuser's pool to it.
pub struct Stage {
    pub app: App,
    pub options: PgConnectOptions,
    pub admin: PgPool,
    pub database: TestDatabase,
}

impl Stage {
    pub async fn new() -> Self {
        let migrator = journal::migrations::migrator(&MIGRATIONS);
        let database = TestDatabase::new(Service::Inventory, &migrator).await.unwrap();
        let options: PgConnectOptions = database.serving_url().parse().unwrap();
        let admin = PgPool::connect_lazy_with(database.admin());
        Self { app: app(&options, patient()), options, admin, database }
    }

    /// The same setup, with the use cases connected through a proxy.
    pub async fn behind_proxy(mut self) -> (Self, TcpProxy) {
        let database = SocketAddr::from((Ipv4Addr::LOCALHOST, self.options.get_port()));
        let proxy = TcpProxy::start(database).await.unwrap();
        self.app = app(&self.options.clone().port(proxy.address().port()), patient());
        (self, proxy)
    }

    /// A setup with these items in stock.
    pub async fn with(items: &[(&str, i64)]) -> Self {
        let stage = Self::new().await;
        for (sku, on_hand) in items {
            assert_eq!(stage.create(ask(), sku, *on_hand).await.unwrap().stored.status, 201);
        }
        stage
    }

    pub async fn create(
        &self,
        ask: CommandContext,
        sku: &str,
        on_hand: i64,
    ) -> Result<CommandResult, CommandError> {
        let command = NewItem {
            sku: sku.to_owned().try_into().unwrap(),
            name: String::new().try_into().unwrap(),
            on_hand: on_hand.try_into().unwrap(),
        };
        self.app.create_item(ask, command).await
    }

    pub async fn receive(
        &self,
        ask: CommandContext,
        sku: &str,
        quantity: i64,
    ) -> Result<CommandResult, CommandError> {
        let sku = sku.to_owned().try_into().unwrap();
        self.app.receive(ask, Receipt { sku, quantity: quantity.try_into().unwrap() }).await
    }

    pub async fn reserve(
        &self,
        ask: CommandContext,
        id: Uuid,
        items: &[(&str, i64)],
    ) -> Result<CommandResult, CommandError> {
        self.app.reserve(ask, reserve(id, items)).await
    }

    pub async fn confirm(&self, ask: CommandContext, id: Uuid) -> Result<CommandResult, CommandError> {
        self.app.confirm(ask, id).await
    }

    pub async fn release(&self, ask: CommandContext, id: Uuid) -> Result<CommandResult, CommandError> {
        self.app.release(ask, id).await
    }

    /// Reserves `items` and gives the reservation's id.
    pub async fn hold(&self, items: &[(&str, i64)]) -> Uuid {
        let id = Uuid::now_v7();
        assert_eq!(self.reserve(ask(), id, items).await.unwrap().stored.status, 201);
        id
    }

    /// Moves the end of a hold into the past.
    pub async fn let_end(&self, id: Uuid) {
        let end = "UPDATE reservations SET expires_at = clock_timestamp() - interval '1 ms' WHERE id = $1";
        assert_eq!(sqlx::query(end).bind(id).execute(&self.admin).await.unwrap().rows_affected(), 1);
    }

    /// Stock of an item: pieces on hand and pieces held.
    pub async fn stock(&self, sku: &str) -> (i64, i64) {
        sqlx::query_as("SELECT on_hand, held FROM items WHERE sku = $1")
            .bind(sku)
            .fetch_one(&self.admin)
            .await
            .unwrap()
    }

    pub async fn status(&self, id: Uuid) -> Option<String> {
        sqlx::query_scalar("SELECT status FROM reservations WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.admin)
            .await
            .unwrap()
    }

    /// Entries of one aggregate, or of all.
    pub async fn entries(&self, id: Option<Uuid>) -> Vec<journal::Entry<'static>> {
        let bodies: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT body FROM journal WHERE $1::uuid IS NULL OR aggregate_id = $1 ORDER BY seq",
        )
        .bind(id)
        .fetch_all(&self.admin)
        .await
        .unwrap();
        bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect()
    }

    /// The states that a reservation went through, in order.
    pub async fn path(&self, id: Uuid) -> Vec<String> {
        self.entries(Some(id)).await.into_iter().map(|entry| entry.to.into_owned()).collect()
    }

    pub async fn keys(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM idempotency").fetch_one(&self.admin).await.unwrap()
    }

    /// Checks that the tables equal the fold of the journal, that chains are complete, and that every decision re-executes.
    pub async fn assert_sound(&self) {
        crate::sound::assert_sound(self).await;
    }
}

/// Limits with long waits, because a busy machine delays the service without a defect of the service.
pub fn patient() -> Limits {
    Limits {
        acquire: PATIENCE,
        lock: PATIENCE,
        statement: PATIENCE,
        transaction: PATIENCE,
        ..Limits::default()
    }
}

pub fn app(options: &PgConnectOptions, limits: Limits) -> App {
    let database = Database::keyed(options.clone(), limits);
    App::new(database, Journal::new("inventory", "test", "00"), render)
}

/// A new request with a new key.
pub fn ask() -> CommandContext {
    ask_with(&Uuid::new_v4().to_string())
}

/// A request with this key. All requests have the same fingerprint.
pub fn ask_with(key: &str) -> CommandContext {
    let context = RequestContext::background(PATIENCE);
    let ask = CommandContext::new("order-service".into(), KeyHash::of(key), [7; 32], context);
    CommandContext { payload_hash: Some([8; 32]), ..ask }
}

pub fn reserve(id: Uuid, items: &[(&str, i64)]) -> NewReservation {
    let lines = items.iter().map(|(sku, quantity)| Line { sku: (*sku).to_owned(), quantity: *quantity });
    NewReservation {
        id,
        order_id: Uuid::new_v5(&id, b"order"),
        lines: Lines::new(&lines.collect::<Vec<_>>()).unwrap(),
        hold_seconds: 900.try_into().unwrap(),
    }
}

/// Body of a reply.
pub fn body(reply: &CommandResult) -> Value {
    serde_json::from_slice(&reply.stored.body).unwrap()
}

/// Stable name of a problem.
pub fn problem(reply: &CommandResult) -> String {
    let body = body(reply);
    body["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned()
}
