use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::child::{OnEvent, Restart};
use crate::postgres::DataLocation;
use crate::{PostgresOptions, Secret, Service, ports};

/// Options of the pair.
#[derive(Clone)]
pub struct PairOptions {
    pub programs: Programs,
    pub server: Server,
    /// The services' ports; `None` draws free ones.
    pub ports: Option<Ports>,
    /// The reaction to the death of a service or of a private PostgreSQL.
    pub restart: Restart,
    /// Variables added last to a service's environment, so they override those that this crate sets.
    pub environment: Vec<(Service, OsString, OsString)>,
    /// The longest time for migrating, and again for becoming ready. Default: 1 minute.
    pub ready_within: Duration,
    /// The receiver of deaths and restarts once the pair is up.
    pub on_event: OnEvent,
}

// Not derived: settings for a service's environment may be secrets.
impl std::fmt::Debug for PairOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { programs, server, ports, restart, .. } = self;
        let mut debug = f.debug_struct("PairOptions");
        debug
            .field("programs", programs)
            .field("server", server)
            .field("ports", ports)
            .field("restart", restart);
        debug.finish_non_exhaustive()
    }
}

impl PairOptions {
    pub fn new(programs: Programs, server: Server) -> Self {
        Self {
            programs,
            server,
            ports: None,
            restart: Restart::WithBackOff,
            environment: Vec::new(),
            ready_within: Duration::from_mins(1),
            on_event: Arc::new(|_event| {}),
        }
    }

    /// Options for one test: see [`PostgresOptions::for_tests`]. A killed process stays dead until it is started.
    pub fn for_tests(programs: Programs) -> Self {
        Self { restart: Restart::Never, ..Self::new(programs, Server::Private(PostgresOptions::for_tests())) }
    }

    /// Sets a variable of one service's environment.
    #[must_use]
    pub fn env(mut self, service: Service, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((service, name.into(), value.into()));
        self
    }
}

/// The command of each service; `serve` or `migrate` is appended.
#[derive(Debug, Clone)]
pub struct Programs {
    pub order: Vec<OsString>,
    pub inventory: Vec<OsString>,
}

impl Programs {
    /// The `mainstay` executable, which contains both services.
    pub fn mainstay(executable: &Path) -> Self {
        let command = |name: &str| vec![executable.into(), name.into()];
        Self { order: command("mainstay-order"), inventory: command("mainstay-inventory") }
    }

    pub(super) fn command(&self, service: Service) -> (PathBuf, &[OsString]) {
        let command = match service {
            Service::Order => &self.order,
            Service::Inventory => &self.inventory,
        };
        let (program, arguments) = command.split_first().map_or((None, &[][..]), |(p, rest)| (Some(p), rest));
        (program.map(PathBuf::from).unwrap_or_default(), arguments)
    }
}

/// The pair's PostgreSQL.
#[derive(Debug, Clone)]
pub enum Server {
    /// A private server. The pair's other files are beside it.
    Private(PostgresOptions),
    /// A running server: the URL of a role that may create roles and databases, and the location of the pair's files.
    /// Its roles `mainstay_*` get new passwords.
    Given { admin_url: Secret, location: DataLocation },
}

impl Server {
    pub(super) fn location(&self) -> &DataLocation {
        match self {
            Self::Private(options) => &options.location,
            Self::Given { location, .. } => location,
        }
    }
}

/// The services' ports on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    pub order: u16,
    pub inventory: u16,
    pub order_ops: u16,
    pub inventory_ops: u16,
}

impl Ports {
    /// Order on `base`, inventory on the next port, and their operations listeners 1,000 above each. `None` when the
    /// last would be above 65535, or `base` is 0.
    pub fn from_base(base: u16) -> Option<Self> {
        let last = base.checked_add(1_001)?;
        (base > 0).then_some(Self {
            order: base,
            inventory: base + 1,
            order_ops: last - 1,
            inventory_ops: last,
        })
    }

    /// Draws four ports on which no process listens at this moment.
    pub fn draw() -> io::Result<Self> {
        let [order, inventory, order_ops, inventory_ops] = ports::distinct()?;
        Ok(Self { order, inventory, order_ops, inventory_ops })
    }

    pub fn all(self) -> [u16; 4] {
        [self.order, self.inventory, self.order_ops, self.inventory_ops]
    }

    pub fn public(self, service: Service) -> u16 {
        match service {
            Service::Order => self.order,
            Service::Inventory => self.inventory,
        }
    }

    pub fn ops(self, service: Service) -> u16 {
        match service {
            Service::Order => self.order_ops,
            Service::Inventory => self.inventory_ops,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_follows_from_the_base() {
        let ports = Ports::from_base(8080).unwrap();
        assert_eq!(ports.all(), [8080, 8081, 9080, 9081]);
        assert_eq!(Ports::from_base(64_534).unwrap().inventory_ops, u16::MAX);
        assert_eq!(Ports::from_base(64_535), None);
        assert_eq!(Ports::from_base(0), None);
    }
}
