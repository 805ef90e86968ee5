//! Settings and start of a pair.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use checker::{AttemptBudget, Contract};
use local::child::{Restart, State};
use local::pair::Programs;
use local::{Child, ChildSpec, Service, TemporaryDirectory, ports};
use tokio::time::{Instant, sleep};

use super::{READY_WITHIN, Replica, TestPair, Tokens, resources, side};
use crate::databases::{Migration, TestCluster};
use crate::http::{Client, RequestLog};
use crate::proxy::{HttpProxy, TcpProxy};

/// Longest wait for a process to stop: longer than a service's own shutdown limit of 10 s.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Attempts to start a replica with fresh ports. Another process may take a free port before the service binds it.
const PORT_DRAWS: u32 = 3;

/// Settings of a pair.
#[derive(Debug)]
pub struct PairSetup {
    programs: Programs,
    contract: Contract<'static>,
    orders: usize,
    inventories: usize,
    own_postgres: bool,
    environment: Vec<(Service, OsString, OsString)>,
}

impl PairSetup {
    pub(super) fn new(programs: Programs, contract: Contract<'static>) -> Self {
        Self { programs, contract, orders: 1, inventories: 1, own_postgres: false, environment: Vec::new() }
    }

    /// Sets the number of processes of each service. Order replica `n` calls inventory replica `n` modulo the number of
    /// inventory replicas.
    #[must_use]
    pub fn replicas(self, orders: usize, inventories: usize) -> Self {
        assert!(orders > 0 && inventories > 0, "a service needs at least one process");
        Self { orders, inventories, ..self }
    }

    /// Gives the pair its own PostgreSQL cluster, which the test may kill.
    #[must_use]
    pub fn own_postgres(self) -> Self {
        Self { own_postgres: true, ..self }
    }

    /// Replaces the attempt budget that the checker allows.
    #[must_use]
    pub fn budget(self, budget: AttemptBudget) -> Self {
        Self { contract: self.contract.budget(budget), ..self }
    }

    /// Sets an environment variable for every replica of a service. It overrides the variables that the setup sets.
    #[must_use]
    pub fn env(mut self, service: Service, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((service, name.into(), value.into()));
        self
    }

    /// Starts databases, networks and services, and waits until all are ready.
    pub async fn start(self) -> anyhow::Result<TestPair> {
        let home =
            TemporaryDirectory::create_in(&std::env::temp_dir()).context("creating a temporary directory")?;
        let tokens = Tokens::create(home.path())?;
        let own = if self.own_postgres { Some(TestCluster::own().await?) } else { None };
        let cluster = match &own {
            Some(own) => own,
            None => TestCluster::get().await?,
        };
        let (order, inventory) = (&self.programs.order, &self.programs.inventory);
        let (order_database, inventory_database) = tokio::try_join!(
            cluster.database(Service::Order, Migration::Program(order)),
            cluster.database(Service::Inventory, Migration::Program(inventory)),
        )?;
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.admin("postgres").get_port()));
        let order_network = TcpProxy::start(server).await?;
        let inventory_network = TcpProxy::start(server).await?;

        let mut inventory = Vec::new();
        let mut hops = Vec::new();
        for _ in 0..self.inventories {
            let url = through(&inventory_network, server, inventory_database.serving_url())?;
            let replica = self.spawn(Service::Inventory, inventory.len(), &home, &tokens, &url, None).await?;
            hops.push(HttpProxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, replica.public))).await?);
            inventory.push(replica);
        }
        let mut order = Vec::new();
        for number in 0..self.orders {
            let url = through(&order_network, server, order_database.serving_url())?;
            let hop = &hops[number % hops.len()];
            order.push(self.spawn(Service::Order, number, &home, &tokens, &url, Some(hop)).await?);
        }
        Ok(TestPair {
            order,
            inventory,
            hops,
            order_network,
            inventory_network,
            order_database,
            inventory_database,
            postgres: own,
            tokens,
            log: RequestLog::default(),
            contract: self.contract,
            began: Instant::now(),
            home,
        })
    }

    async fn spawn(
        &self,
        service: Service,
        number: usize,
        home: &TemporaryDirectory,
        tokens: &Tokens,
        database_url: &str,
        hop: Option<&HttpProxy>,
    ) -> anyhow::Result<Replica> {
        let command = match service {
            Service::Order => &self.programs.order,
            Service::Inventory => &self.programs.inventory,
        };
        let (program, arguments) = command.split_first().context("the command names no program")?;
        let log = home.path().join(format!("{service}-{number}.log"));
        let mut draws = 0;
        loop {
            draws += 1;
            let [public, ops] = ports::distinct()?;
            let address = |port| OsString::from(format!("127.0.0.1:{port}"));
            let mut environment: Vec<(OsString, OsString)> = vec![
                ("DATABASE_URL".into(), database_url.into()),
                ("LISTEN_ADDR".into(), address(public)),
                ("OPS_LISTEN_ADDR".into(), address(ops)),
                ("AUTH_TOKENS_FILE".into(), tokens.accepted_file(service).into()),
            ];
            if let Some(hop) = hop {
                environment.push(("INVENTORY_URL".into(), hop.url().into()));
                environment.push(("INVENTORY_TOKEN_FILE".into(), tokens.peer_file().into()));
            }
            let own = self.environment.iter().filter(|(target, ..)| *target == service);
            environment.extend(own.map(|(_, name, value)| (name.clone(), value.clone())));
            let spec = ChildSpec {
                name: service.name(),
                program: program.into(),
                arguments: arguments.iter().cloned().chain(["serve".into()]).collect(),
                environment,
                log: log.clone(),
                restart: Restart::Never,
                stop_within: STOP_WITHIN,
            };
            let child = Child::spawn(spec, Arc::new(|_event| {})).context("starting a service")?;
            let mut replica = Replica { child, public, ops, log: log.clone(), baseline: Vec::new() };
            match replica.ready(service).await {
                Ok(()) => return Ok(replica),
                Err(_) if draws < PORT_DRAWS && !(ports::is_free(public) && ports::is_free(ops)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Replica {
    /// Waits until the replica reports that it is ready, and takes the baseline of its sockets and memory.
    pub(super) async fn ready(&mut self, service: Service) -> anyhow::Result<()> {
        let started = Instant::now();
        let ops = Client::new(&format!("http://127.0.0.1:{}", self.ops)).patience(Duration::from_secs(2));
        loop {
            let last = match (self.child.state(), ops.get("/readyz").send().await) {
                (State::Dead { status }, _) => bail!("{service} exited ({status:?}):\n{}", tail(&self.log)),
                (State::Running { pid }, Ok(reply)) if reply.status.is_success() => {
                    self.baseline = resources::baseline(side(service), pid);
                    return Ok(());
                }
                (State::Running { .. }, Ok(reply)) => reply.to_string(),
                (State::Running { .. }, Err(error)) => error.to_string(),
            };
            if started.elapsed() > READY_WITHIN {
                bail!("{service} was not ready within {READY_WITHIN:?}: {last}\n{}", tail(&self.log));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// URL of the same database through the proxy.
fn through(network: &TcpProxy, server: SocketAddr, url: &str) -> anyhow::Result<String> {
    let (before, after) =
        url.split_once(&format!("@{server}/")).context("the URL does not name the test cluster")?;
    Ok(format!("{before}@{}/{after}", network.address()))
}

/// The last 20 lines of a log, for an error message.
fn tail(log: &Path) -> String {
    let text =
        std::fs::read_to_string(log).unwrap_or_else(|error| format!("reading the log failed: {error}"));
    let lines: Vec<_> = text.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
