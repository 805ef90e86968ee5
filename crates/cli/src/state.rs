//! How every other command finds the pair that `mainstay up` started: a file with its URLs, tokens and
//! process ids that only its owner can read, in the user's runtime or state directory.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use local::pair::{Ports, Ready};
use local::{Secret, Service, private, system};
use serde::{Deserialize, Serialize};

use crate::commands::DEFAULT_PORT_BASE;

/// Tells which pair is meant. Flattened into every command that talks to one.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Which {
    /// The first port of the pair [default: the one that runs here, 8080 if there are several]
    #[arg(long, value_name = "N", env = "MAINSTAY_PORT_BASE")]
    pub(crate) port_base: Option<u16>,
}

/// A pair to talk to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) urls: Urls,
    pub(crate) operator: Option<Secret>,
    /// Of somebody who may order.
    pub(crate) client: Option<Secret>,
    /// What `mainstay up` wrote; `None` for a pair that was started otherwise, in containers for example.
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

/// What is in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    /// The process that keeps the pair, and removes this file when it ends in good order.
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

    /// The pair on these ports, if the process that keeps it is alive.
    pub(crate) fn read(port_base: u16) -> Option<Self> {
        read_file(&file_in(&directory().ok()?, port_base)).ok()?
    }
}

impl Which {
    /// The pair that is meant; an error that says how to start one when there is none.
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
                bail!("whether a pair runs here cannot be told: {}", each.join("; "))
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
    /// The token to look into the services with.
    pub(crate) fn operator(&self) -> anyhow::Result<&Secret> {
        self.operator.as_ref().context("an operator's token is needed: set MAINSTAY_OPERATOR_TOKEN")
    }

    /// The service's process, where `mainstay up` has started it.
    pub(crate) fn pid(&self, service: Service) -> Option<u32> {
        let pids = self.state.as_ref()?.ready.pids;
        match service {
            Service::Order => pids.order,
            Service::Inventory => pids.inventory,
        }
    }

    /// The directory with the pair's data and logs, where `mainstay up` has started it.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.state.as_ref().map(|state| state.ready.data_dir.as_path())
    }

    /// The token to order with.
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

    /// A pair nobody told us about: its ports follow from the base, its tokens come from the environment.
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

/// The pairs that run, and the state files that cannot be read. One of these hides no other pair.
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

/// The state in `file`; `None` when there is no such file, or the process that kept it is gone.
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

/// `$XDG_RUNTIME_DIR`, or `$XDG_STATE_HOME`, or `~/.local/state`; without a home, one in the temporary directory.
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

/// In a directory that everybody may write to, somebody else could have been there first.
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
    fn a_state_file_that_cannot_be_read_is_named_and_hides_no_other() {
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
