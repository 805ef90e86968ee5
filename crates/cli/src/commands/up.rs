//! `mainstay up`: runs the whole pair on this machine until Ctrl-C.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use local::pair::{PairOptions, Ports, Programs, RunningPair, Server};
use local::postgres::DataLocation;
use local::{ChildEvent, PostgresOptions, Secret, Service, ports};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::signals::End;
use crate::state::{DEFAULT_PORT_BASE, State, other_base};

/// Start PostgreSQL, both databases and both services, and stay until Ctrl-C
///
/// Settings of the services are taken from the environment (HOLD_SECONDS, FAULTS_ENABLED, RUST_LOG,
/// OTEL_EXPORTER_OTLP_ENDPOINT, …). A process that dies is reported and started again, with back-off. Everything ends
/// with this process, however it ends.
#[derive(Debug, Args)]
pub(super) struct Up {
    /// The first port: order N, inventory N+1, operations N+1000 and N+1001
    #[arg(long, value_name = "N", env = "MAINSTAY_PORT_BASE", default_value_t = DEFAULT_PORT_BASE)]
    port_base: u16,
    /// Keep the data here between runs [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Use this PostgreSQL instead of a private one: the URL of a role that may create roles and databases
    #[arg(long, value_name = "URL", env = "MAINSTAY_POSTGRES_URL", hide_env_values = true)]
    postgres_url: Option<String>,
    /// The directory of `initdb` and `postgres` [default: searched in the usual places]
    #[arg(long, value_name = "DIR", conflicts_with = "postgres_url")]
    postgres_bin: Option<PathBuf>,
    /// Print one line of JSON when ready, and nothing else, on standard output
    #[arg(long)]
    json: bool,
}

impl Up {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let begun = Instant::now();
        let mut end = End::listen()?;
        let ports = self.free_ports()?;
        let (events, mut inbox) = mpsc::unbounded_channel();
        let options = self.pair_options(ports, events)?;
        eprintln!("Starting PostgreSQL, the databases and both services…");
        let pair = tokio::select! {
            started = RunningPair::start(options) => started?,
            name = end.next() => {
                eprintln!("{name} while starting: stopping the started parts");
                return Ok(ExitCode::FAILURE);
            }
        };
        self.write_state(&pair)?;
        let text =
            if self.json { serde_json::to_string(&pair.ready())? + "\n" } else { self.welcome(&pair, begun) };
        std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush())?;
        let name = loop {
            tokio::select! {
                Some(event) = inbox.recv() => self.tell(&pair, &event),
                name = end.next() => break name,
            }
        };
        eprintln!("{name}: stopping (once more: at once)");
        tokio::select! {
            stopped = pair.stop() => stopped?,
            name = end.next() => bail!("{name} again: not waiting for the services to finish their requests"),
        };
        State::remove(self.port_base)?;
        eprintln!("Everything is stopped.");
        Ok(ExitCode::SUCCESS)
    }

    /// The ports that were asked for.
    ///
    /// # Errors
    /// Some are in use: the error names them and, where that is the reason, the pair that uses them.
    fn free_ports(&self) -> anyhow::Result<Ports> {
        let wanted = Ports::from_base(self.port_base).context("--port-base must be from 1 to 64534")?;
        let taken: Vec<_> = wanted.all().into_iter().filter(|port| !ports::is_free(*port)).collect();
        if taken.is_empty() {
            return Ok(wanted);
        }
        let taken = taken.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        match State::read(self.port_base) {
            Some(state) => {
                bail!("a pair runs on these ports already (process {}); see `mainstay status`", state.up)
            }
            None => bail!(
                "on 127.0.0.1, in use: {taken}. Stop the programs that listen there, or choose other ports: \
                 mainstay up --port-base {}",
                other_base(self.port_base)
            ),
        }
    }

    fn pair_options(
        &self,
        ports: Ports,
        events: mpsc::UnboundedSender<ChildEvent>,
    ) -> anyhow::Result<PairOptions> {
        let executable = std::env::current_exe().context("cannot find this program's own file")?;
        let location = self
            .data_dir
            .clone()
            .map_or_else(|| DataLocation::TemporaryIn(std::env::temp_dir()), DataLocation::Kept);
        let server = match &self.postgres_url {
            Some(url) => Server::Given { admin_url: Secret::new(url), location },
            None => Server::Private(PostgresOptions {
                location,
                binaries: self.postgres_bin.clone(),
                ..PostgresOptions::temporary()
            }),
        };
        Ok(PairOptions {
            ports: Some(ports),
            on_event: Arc::new(move |event| {
                let _receiver_is_gone_at_the_end = events.send(event);
            }),
            ..PairOptions::new(Programs::mainstay(&executable), server)
        })
    }

    /// Prints the event and writes the new process ids to the state file.
    fn tell(&self, pair: &RunningPair, event: &ChildEvent) {
        eprintln!("{event}");
        if let ChildEvent::Died { name, .. } = event
            && let Some(service) = Service::BOTH.into_iter().find(|service| service.name() == *name)
        {
            eprintln!("  its log: {}", pair.log_file(service).display());
        }
        if let Err(error) = self.write_state(pair) {
            eprintln!("{error:#}; other commands will look for processes that have ended");
        }
    }

    fn write_state(&self, pair: &RunningPair) -> anyhow::Result<()> {
        State { up: std::process::id(), port_base: self.port_base, ready: pair.ready() }.write()
    }

    fn welcome(&self, pair: &RunningPair, begun: Instant) -> String {
        let home = pair.home().display();
        let kept = match self.data_dir {
            Some(_) => "kept",
            None => "removed at the end; --data-dir DIR keeps it",
        };
        let (order, inventory) = (pair.url(Service::Order), pair.url(Service::Inventory));
        let (order_ops, inventory_ops) = (pair.ops_url(Service::Order), pair.ops_url(Service::Inventory));
        format!(
            "\
Ready after {:.1} s.

  order      {order}  API {order}/docs  operations {order_ops}
  inventory  {inventory}  API {inventory}/docs  operations {inventory_ops}
  data       {home} ({kept})
  logs       {home}/order.log, {home}/inventory.log

Try, in another terminal:

  cd '{home}/tokens'
  # an operator puts stock on the shelf
  curl -sS {inventory}/v1/items -H \"Authorization: Bearer $(cat operator)\" -H 'Content-Type: application/json' \\
    -H 'Idempotency-Key: my-first-item-00' -d '{{\"sku\": \"85123A\", \"name\": \"Heart holder\", \"on_hand\": 100}}'
  # a client orders some; the same line again gets the same answer, and orders nothing twice
  curl -sS {order}/v1/orders -H \"Authorization: Bearer $(cat client)\" -H 'Content-Type: application/json' \\
    -H 'Idempotency-Key: my-first-order-0' -d '{{\"customer_id\": \"17850\", \"lines\": [{{\"sku\": \"85123A\", \"quantity\": 6}}]}}'
  # kill a service, and see it come back
  kill -9 {}

Ctrl-C stops everything.
",
            begun.elapsed().as_secs_f64(),
            pair.pid(Service::Inventory).unwrap_or_default(),
        )
    }
}
