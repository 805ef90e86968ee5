//! The state file of a pair that `mainstay up` started, by which every other command finds the pair. It holds URLs,
//! tokens and process ids, only its owner can read it, and it is in the user's runtime or state directory.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use local::pair::{Ports, Ready};
use local::{Secret, Service, private, system};
use serde::{Deserialize, Serialize};

/// The pair's first port, unless `--port-base` names another.
pub(crate) const DEFAULT_PORT_BASE: u16 = 8080;

/// Another valid first port, 10,000 away.
pub(crate) fn other_base(base: u16) -> u16 {
    if base < 50_000 { base + 10_000 } else { base - 10_000 }
}

/// The selection of a pair. Flattened into every command that talks to one.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Which {
    /// The first port of the pair [default: that of the running pair, 8080 if several run]
    #[arg(long, value_name = "N", env = "MAINSTAY_PORT_BASE")]
    pub(crate) port_base: Option<u16>,
}

/// A pair to talk to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) urls: Urls,
    pub(crate) operator: Option<Secret>,
    /// The token of a client, which may place orders.
    pub(crate) client: Option<Secret>,
    /// The state that `mainstay up` wrote; `None` for a pair that was started otherwise, for example in containers.
    pub(crate) state: Option<State>,
}

#[derive(Debug, Clone)]
pub(crate) struct Urls {
    pub(crate) order: String,
    pub(crate) inventory: String,
    pub(crate) order_ops: String,
    pub(crate) inventory_ops: String,
}

impl Urls {
    pub(crate) fn public(&self, service: Service) -> &str {
        match service {
            Service::Order => &self.order,
            Service::Inventory => &self.inventory,
        }
    }

    pub(crate) fn ops(&self, service: Service) -> &str {
        match service {
            Service::Order => &self.order_ops,
            Service::Inventory => &self.inventory_ops,
        }
    }
}

/// The content of the state file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    /// The process that runs the pair. It removes this file when it ends in good order.
    pub(crate) up: u32,
    pub(crate) port_base: u16,
    #[serde(flatten)]
    pub(crate) ready: Ready,
}

impl State {
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let directory = directory()?;
        private::directory(&directory)
            .and_then(|()| check_owner(&directory))
            .and_then(|()| private::file(&file_in(&directory, self.port_base), &serde_json::to_string(self)?))
            .with_context(|| format!("cannot write the state file in {}", directory.display()))
    }

    pub(crate) fn remove(port_base: u16) -> anyhow::Result<()> {
        let file = file_in(&directory()?, port_base);
        std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
    }

    /// Reads the state of the pair on these ports; `None` unless the process that runs it is alive.
    pub(crate) fn read(port_base: u16) -> Option<Self> {
        read_file(&file_in(&directory().ok()?, port_base)).ok()?
    }
}

impl Which {
    /// Finds the pair.
    ///
    /// # Errors
    /// No pair runs (the error says how to start one), several run, or the state cannot be read.
    pub(crate) fn find(self) -> anyhow::Result<Target> {
        if let Some(port_base) = self.port_base {
            return match read_file(&file_in(&directory()?, port_base))? {
                Some(state) => Ok(Target::from_state(state)),
                None => Target::from_ports(port_base),
            };
        }
        let (mut running, unreadable) = running(&directory()?);
        if let Some(at) = running.iter().position(|state| state.port_base == DEFAULT_PORT_BASE) {
            return Ok(Target::from_state(running.swap_remove(at)));
        }
        match (running.pop(), running.as_slice()) {
            (Some(state), []) => Ok(Target::from_state(state)),
            (None, _) if unreadable.is_empty() => bail!(
                "no pair runs here; start one with `mainstay up`, or name the ports of one that was started \
                 otherwise with --port-base"
            ),
            (None, _) => {
                let each: Vec<_> = unreadable.iter().map(|error| format!("{error:#}")).collect();
                bail!("cannot tell whether a pair runs here: {}", each.join("; "))
            }
            (Some(last), others) => {
                let bases = others.iter().chain([&last]).map(|state| state.port_base.to_string());
                bail!(
                    "several pairs run here; choose one with --port-base: {}",
                    bases.collect::<Vec<_>>().join(", ")
                )
            }
        }
    }
}

impl Target {
    /// The operator's token.
    pub(crate) fn operator(&self) -> anyhow::Result<&Secret> {
        self.operator.as_ref().context("an operator's token is needed: set MAINSTAY_OPERATOR_TOKEN")
    }

    /// The service's process id, if `mainstay up` started the pair.
    pub(crate) fn pid(&self, service: Service) -> Option<u32> {
        let pids = self.state.as_ref()?.ready.pids;
        match service {
            Service::Order => pids.order,
            Service::Inventory => pids.inventory,
        }
    }

    /// The directory of the pair's data and logs, if `mainstay up` started the pair.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.state.as_ref().map(|state| state.ready.data_dir.as_path())
    }

    /// The client's token.
    pub(crate) fn client(&self) -> anyhow::Result<&Secret> {
        self.client.as_ref().context("a client's token is needed: set MAINSTAY_CLIENT_TOKEN")
    }

    fn from_state(state: State) -> Self {
        let ready = &state.ready;
        let urls = Urls {
            order: ready.order.clone(),
            inventory: ready.inventory.clone(),
            order_ops: ready.order_ops.clone(),
            inventory_ops: ready.inventory_ops.clone(),
        };
        let operator = Some(Secret::new(&*ready.tokens.operator));
        let client = Some(Secret::new(&*ready.tokens.client));
        Self { urls, operator, client, state: Some(state) }
    }

    /// A pair without a state file: its ports follow from the base, its tokens come from the environment.
    fn from_ports(port_base: u16) -> anyhow::Result<Self> {
        let ports = Ports::from_base(port_base).context("--port-base must be from 1 to 64534")?;
        let url = |port| format!("http://127.0.0.1:{port}");
        let urls = Urls {
            order: url(ports.order),
            inventory: url(ports.inventory),
            order_ops: url(ports.order_ops),
            inventory_ops: url(ports.inventory_ops),
        };
        let token = |name| std::env::var(name).ok().filter(|token| !token.is_empty()).map(Secret::new);
        let (operator, client) = (token("MAINSTAY_OPERATOR_TOKEN"), token("MAINSTAY_CLIENT_TOKEN"));
        Ok(Self { urls, operator, client, state: None })
    }
}

/// Reads the running pairs and the errors of unreadable state files. An unreadable file does not hide the other
/// pairs.
fn running(directory: &Path) -> (Vec<State>, Vec<anyhow::Error>) {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let error = anyhow::Error::new(error).context(format!("{} cannot be read", directory.display()));
            return (Vec::new(), vec![error]);
        }
        entries => entries.into_iter().flatten().flatten(),
    };
    let files =
        entries.map(|entry| entry.path()).filter(|file| file.extension().is_some_and(|e| e == "json"));
    let (mut running, mut unreadable) = (Vec::new(), Vec::new());
    for file in files {
        match read_file(&file) {
            Ok(state) => running.extend(state),
            Err(error) => unreadable.push(error),
        }
    }
    (running, unreadable)
}

/// Reads the state in `file`; `None` when the file does not exist, or the process that wrote it is gone.
fn read_file(file: &Path) -> anyhow::Result<Option<State>> {
    let bytes = match std::fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("{} cannot be read", file.display()))?,
    };
    let state: State = serde_json::from_slice(&bytes).with_context(|| {
        format!("{} is not the state of a pair of this release; remove it", file.display())
    })?;
    Ok(system::process_exists(state.up).then_some(state))
}

fn file_in(directory: &Path, port_base: u16) -> PathBuf {
    directory.join(format!("pair-{port_base}.json"))
}

/// The directory of state files: `mainstay` in `$XDG_RUNTIME_DIR`, `$XDG_STATE_HOME` or `~/.local/state`; without a
/// home, a directory in the temporary directory.
fn directory() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = variable("XDG_RUNTIME_DIR")
        .or_else(|| variable("XDG_STATE_HOME"))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .map_or_else(
            || std::env::temp_dir().join(format!("mainstay-{}", system::user_id())),
            |parent| parent.join("mainstay"),
        );
    std::path::absolute(&directory).with_context(|| format!("{}", directory.display()))
}

/// Checks the directory's owner: in a directory that every user may write to, another user can have created it first.
fn check_owner(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(directory)?;
    if metadata.uid() == system::user_id() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "the directory belongs to another user"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_proposed_instead_exist() {
        for base in [1, 8080, 49_999, 50_000, 64_534] {
            assert!(Ports::from_base(other_base(base)).is_some(), "{base}");
        }
    }

    #[test]
    fn an_unreadable_state_file_is_named_and_the_others_are_read() {
        let directory = local::TemporaryDirectory::create_in(&std::env::temp_dir()).unwrap();
        std::fs::write(directory.path().join("pair-1.json"), b"{\"cut").unwrap();
        let good = serde_json::json!({"up": std::process::id(), "port_base": 2, "order": "", "inventory": "", "order_ops": "",
            "inventory_ops": "", "tokens": {"client": "", "client2": "", "operator": ""},
            "databases": {"order": "", "inventory": ""}, "pids": {"order": 1, "inventory": 2, "postgres": 3},
            "data_dir": "/"});
        std::fs::write(directory.path().join("pair-2.json"), good.to_string()).unwrap();
        let (running, unreadable) = running(directory.path());
        assert_eq!(running.iter().map(|state| state.port_base).collect::<Vec<_>>(), [2]);
        assert!(format!("{:#}", unreadable[0]).contains("pair-1.json is not the state of a pair"));
    }
}
