//! The pair for one test: both services as child processes, each with its own database, a proxy on every connection
//! that may get a fault, and the checker.
//!
//! ```text
//!   clients ──> order 0 ──> hop 0 (HttpProxy) ──> inventory 0 ──> TcpProxy ──> database
//!          └──> order 1 ──> hop 1 ──────────────> inventory 1 ──┘
//!                 └───────> TcpProxy ──> database
//! ```
//!
//! The services run as processes so that the faults are real: after `kill -9` the state is that of a crash, each
//! process has its own metrics and logs, and two replicas share only their database.

mod dump;
mod ending;
mod resources;
mod setup;
mod starts;
mod tokens;

use std::path::{Path, PathBuf};
use std::time::Duration;

use checker::postgres::PairDump;
use checker::{Contract, Gauge, Observed, Report, Side};
use local::child::Stopped;
use local::{Child, Service, TemporaryDirectory};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::eventually::eventually;
use crate::http::{Client, Reply, RequestLog};
use crate::proxy::{HttpProxy, TcpProxy};
use crate::{TestCluster, TestDatabase};

pub use setup::PairSetup;
pub use tokens::{Tokens, Who};

/// Longest time for a service to become ready. Connecting to the database takes long on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// One running process of a service.
#[derive(Debug)]
struct Replica {
    child: Child,
    public: u16,
    ops: u16,
    log: PathBuf,
    /// Sockets and memory of the process when it became ready.
    baseline: Vec<Gauge>,
}

/// A running pair. Its processes stop when it is dropped or when the test process dies.
#[derive(Debug)]
pub struct TestPair {
    order: Vec<Replica>,
    inventory: Vec<Replica>,
    hops: Vec<HttpProxy>,
    order_network: TcpProxy,
    inventory_network: TcpProxy,
    order_database: TestDatabase,
    inventory_database: TestDatabase,
    postgres: Option<TestCluster>,
    tokens: Tokens,
    log: RequestLog,
    contract: Contract<'static>,
    began: Instant,
    home: TemporaryDirectory,
}

impl TestPair {
    /// Settings for a pair with one replica of each service.
    pub fn setup(programs: local::pair::Programs, contract: Contract<'static>) -> PairSetup {
        PairSetup::new(programs, contract)
    }

    /// A client of the order service's first replica. Its requests and replies go into the request log.
    pub fn client(&self) -> Client {
        self.client_of(Service::Order, 0, Who::Client)
    }

    /// A client of a replica's public listener with the token of `who`. Its requests and replies go into the request
    /// log.
    pub fn client_of(&self, service: Service, replica: usize, who: Who) -> Client {
        let principal = self.tokens.principal(who);
        Client::new(&self.url(service, replica)).token(self.tokens.secret(who)).logged(
            &self.log,
            side(service),
            principal,
        )
    }

    /// `http://127.0.0.1:port` of a replica's public listener.
    pub fn url(&self, service: Service, replica: usize) -> String {
        format!("http://127.0.0.1:{}", self.replicas(service)[replica].public)
    }

    /// An operator's client of a replica's operations listener.
    pub fn ops(&self, service: Service, replica: usize) -> Client {
        let url = format!("http://127.0.0.1:{}", self.replicas(service)[replica].ops);
        Client::new(&url).token(self.tokens.secret(Who::Operator))
    }

    /// The tokens that the services accept.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The requests and replies of all clients so far.
    pub fn requests(&self) -> &RequestLog {
        &self.log
    }

    /// The network between the order service and inventory's first replica.
    pub fn hop(&self) -> &HttpProxy {
        &self.hops[0]
    }

    /// The networks in front of inventory's replicas, one for each.
    pub fn hops(&self) -> &[HttpProxy] {
        &self.hops
    }

    /// The network between a service and its database.
    pub fn network(&self, service: Service) -> &TcpProxy {
        match service {
            Service::Order => &self.order_network,
            Service::Inventory => &self.inventory_network,
        }
    }

    /// A service's database.
    pub fn database(&self, service: Service) -> &TestDatabase {
        match service {
            Service::Order => &self.order_database,
            Service::Inventory => &self.inventory_database,
        }
    }

    /// The pair's own PostgreSQL.
    ///
    /// # Panics
    /// If the pair was set up without [`PairSetup::own_postgres`].
    pub fn postgres(&self) -> &TestCluster {
        self.postgres.as_ref().expect("the pair was set up with `own_postgres`")
    }

    /// The log file of a replica.
    pub fn log_file(&self, service: Service, replica: usize) -> &Path {
        &self.replicas(service)[replica].log
    }

    /// The directory of logs and tokens.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Process id of a replica, or `None` while the process is dead.
    pub fn pid(&self, service: Service, replica: usize) -> Option<u32> {
        self.replicas(service)[replica].child.pid()
    }

    /// Kills a replica with SIGKILL and waits until the process is gone. It stays dead until [`TestPair::start`].
    pub async fn kill(&self, service: Service, replica: usize) {
        self.replicas(service)[replica].child.kill().await;
    }

    /// Stops a replica with SIGTERM and waits until the process has drained and exited.
    pub async fn stop(&self, service: Service, replica: usize) -> Stopped {
        self.replicas(service)[replica].child.stop().await
    }

    /// Pauses a replica with SIGSTOP until [`TestPair::resume`].
    pub async fn pause(&self, service: Service, replica: usize) {
        self.replicas(service)[replica].child.pause().await;
    }

    /// Resumes a paused replica with SIGCONT.
    pub async fn resume(&self, service: Service, replica: usize) {
        self.replicas(service)[replica].child.resume().await;
    }

    /// Starts a dead replica on its old ports and does not wait until it is ready.
    pub async fn launch(&self, service: Service, replica: usize) {
        self.replicas(service)[replica].child.start().await;
    }

    /// Starts a dead replica on its old ports and waits until it is ready.
    pub async fn start(&mut self, service: Service, replica: usize) -> anyhow::Result<()> {
        let replicas = match service {
            Service::Order => &mut self.order,
            Service::Inventory => &mut self.inventory,
        };
        let replica = &mut replicas[replica];
        replica.child.start().await;
        replica.ready(service).await
    }

    /// Waits until a replica reports that it is ready.
    pub async fn ready(&self, service: Service, replica: usize) {
        let ops = self.ops(service, replica);
        eventually(&format!("{service} {replica} is ready"), READY_WITHIN, || async {
            let reply = ops.get("/readyz").send().await?;
            anyhow::ensure!(reply.status.is_success(), "{reply}");
            Ok(())
        })
        .await;
    }

    /// Creates an item with stock.
    pub async fn stock(&self, sku: &str, on_hand: i64) -> Reply {
        let operator = self.client_of(Service::Inventory, 0, Who::Operator);
        let body = json!({"sku": sku, "name": sku, "on_hand": on_hand});
        let reply = operator.post("/v1/items").json(&body).send().await;
        reply.unwrap_or_else(|error| panic!("creating item {sku:?} failed: {error}")).expect(201)
    }

    /// Request body of an order with these lines: SKU and quantity.
    pub fn basket(lines: &[(&str, i64)]) -> Value {
        let lines: Vec<_> =
            lines.iter().map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity})).collect();
        json!({"customer_id": "17850", "lines": lines})
    }

    /// Both journals in commit order and everything else that can be observed. Each service's tables and journal
    /// are of one snapshot; the order service's is the older one.
    pub async fn observe(&self, at_rest: bool) -> anyhow::Result<PairDump> {
        let PairDump { entries, observed } = dump::of(self).await?;
        let observed = Observed {
            at_rest,
            requests: self.log.requests(),
            starts: starts::all(self.logs(), &self.hops),
            calls: dump::calls(&self.hops),
            watched_secs: self.began.elapsed().as_secs_f64(),
            gauges: self.gauges(),
            ..observed
        };
        Ok(PairDump { entries, observed })
    }

    /// Checks the contract's invariants.
    pub async fn check(&self, at_rest: bool) -> anyhow::Result<Report> {
        Ok(self.observe(at_rest).await?.check(&self.contract))
    }

    /// Checks the contract's invariants.
    ///
    /// # Panics
    /// If an invariant is broken or there is no journal to check. The message holds the whole report.
    pub async fn assert_invariants(&self, at_rest: bool) -> Report {
        let report = self
            .check(at_rest)
            .await
            .unwrap_or_else(|error| panic!("reading the pair's state failed: {error:#}"));
        report.require(&[checker::Rule::ChainVerifies]).unwrap_or_else(|broken| panic!("{broken}"));
        report
    }

    fn replicas(&self, service: Service) -> &[Replica] {
        match service {
            Service::Order => &self.order,
            Service::Inventory => &self.inventory,
        }
    }

    /// Log file of every replica.
    fn logs(&self) -> impl Iterator<Item = (Side, &Path)> {
        let of = |service| {
            self.replicas(service).iter().map(move |replica| (side(service), replica.log.as_path()))
        };
        Service::BOTH.into_iter().flat_map(of)
    }

    /// Sockets and memory of the running processes, now and when each became ready.
    fn gauges(&self) -> Vec<Gauge> {
        let replicas = Service::BOTH.into_iter().flat_map(|service| self.replicas(service));
        replicas.flat_map(|replica| resources::now(replica.child.pid(), &replica.baseline)).collect()
    }
}

/// The checker's name for a service.
pub(crate) fn side(service: Service) -> Side {
    match service {
        Service::Order => Side::Order,
        Service::Inventory => Side::Inventory,
    }
}
