//! Test setup: the use cases over a database of their own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use inventory_api::Line;
use journal::database::Limits;
use journal::{Database, Journal, KeyHash};
use local::Service;
use mainstay::RequestContext;
use mainstay::client::{ClientConfig, HyperTransport, TransportConfig};
use order_service::app::place::NewOrder;
use order_service::app::{App, CommandContext, CommandError, CommandResult};
use order_service::clients::Inventory;
use order_service::startup::migrator;
use order_service::store::Order;
use sqlx::PgPool;
use testkit::proxy::{Fault, HttpProxy, Point, When};
use testkit::{TestDatabase, eventually};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Longest wait of a test. It is long because a busy machine delays the service without a defect of the service.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The use cases with one connection, a superuser's pool to their database, and the proxy to inventory, which holds every
/// request.
pub(crate) struct Stage {
    pub(crate) app: Arc<App>,
    pub(crate) admin: PgPool,
    pub(crate) hop: HttpProxy,
    database: TestDatabase,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::new(Service::Order, &migrator()).await.unwrap();
        // No server listens at this address. The proxy holds each request before it connects.
        let hop = HttpProxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 9))).await.unwrap();
        hop.script(When::every("/v1/reservations"), Fault::Hold(Point::Request));
        let transport = HyperTransport::new(&TransportConfig::default());
        let stack = mainstay::client::stack(ClientConfig::new("inventory"), transport).unwrap();
        let breakers = stack.breakers().clone();
        let journal = Journal::new("order", "test", "00");
        let inventory = Inventory::new(stack, &hop.url(), "a-token").unwrap();
        let app = App::new(pool(&database), journal, inventory, breakers, 900);
        Self { app, admin: PgPool::connect_lazy_with(database.admin()), hop, database }
    }

    /// Another pool of the same database.
    pub(crate) fn another_pool(&self) -> Database {
        pool(&self.database)
    }

    /// Places an order. The receiver resolves when the order exists.
    pub(crate) fn place(
        &self,
        command: CommandContext,
    ) -> (impl Future<Output = Result<CommandResult, CommandError>>, oneshot::Receiver<Arc<Order>>) {
        let (send, committed) = oneshot::channel();
        let lines = [Line { sku: "A".to_owned(), quantity: 1 }];
        let new = NewOrder { customer_id: "17850".into(), lines: lines.into() };
        let app = self.app.clone();
        (async move { app.place(command, new, send).await }, committed)
    }

    /// Waits until a statement of the service waits for a lock.
    pub(crate) async fn waits_for_a_lock(&self) {
        self.waits_for_a_lock_since(0.0).await;
    }

    /// Waits until a statement of the service has waited for a lock for a second. A shared transaction waits for 50 ms, so
    /// this one is in a transaction of its own, which keeps its connection until it gets the lock.
    pub(crate) async fn waits_long_for_a_lock(&self) {
        self.waits_for_a_lock_since(1.0).await;
    }

    async fn waits_for_a_lock_since(&self, seconds: f64) {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND usename = 'mainstay_order' AND wait_event_type = 'Lock'
                       AND query_start <= clock_timestamp() - $1 * interval '1 second'";
        eventually("a statement waits for a lock", PATIENCE, || async {
            let waiting = sqlx::query_scalar::<_, i64>(waiting).bind(seconds);
            waiting.fetch_one(&self.admin).await.unwrap() == 1
        })
        .await;
    }

    /// Epoch and status of the order, and the last drawn entry number. A drawn number is not given back, so a write that was
    /// rolled back shows too.
    pub(crate) async fn traces(&self, id: Uuid) -> (i64, String, i64) {
        let traces =
            "SELECT epoch, status, (SELECT last_value FROM journal_seq_seq) FROM orders WHERE id = $1";
        sqlx::query_as(traces).bind(id).fetch_one(&self.admin).await.unwrap()
    }

    /// Waits for the only connection when first polled, and then keeps it.
    pub(crate) async fn occupy(&self) {
        let never = self
            .app
            .store
            .database()
            .read(None, (), |_, ()| Box::pin(std::future::pending::<Result<(), _>>()));
        never.await.unwrap();
    }
}

/// One connection as the serving role.
fn pool(database: &TestDatabase) -> Database {
    let limits = Limits {
        connections: 1,
        acquire: Duration::from_secs(2),
        statement: PATIENCE,
        lock: PATIENCE,
        transaction: PATIENCE,
    };
    Database::keyed(database.serving_url().parse().unwrap(), limits)
}

/// A client's request with `key` and a deadline after `time`.
pub(crate) fn command(key: &str, time: Duration) -> CommandContext {
    CommandContext::new("client".into(), KeyHash::of(key), [7; 32], RequestContext::background(time))
}
