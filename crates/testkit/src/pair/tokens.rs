//! Who may call whom in a test.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use journal::entry::{hash, hex};
use local::Service;
use uuid::Uuid;

/// The principals of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// A client.
    Client,
    /// Another client, who must not see the first one's orders.
    Other,
    /// An operator of both services.
    Operator,
    /// The order service, to inventory.
    Peer,
}

impl Who {
    const ALL: [Self; 4] = [Self::Client, Self::Other, Self::Operator, Self::Peer];

    const fn role(self) -> &'static str {
        match self {
            Self::Client | Self::Other => "client",
            Self::Operator => "operator",
            Self::Peer => "service",
        }
    }
}

/// A random token for each.
#[derive(Debug, Clone)]
pub struct Tokens {
    secrets: [String; 4],
    directory: PathBuf,
}

impl Tokens {
    /// Makes them and writes the files that the services read into `directory`.
    pub(super) fn create(directory: &Path) -> anyhow::Result<Self> {
        let secret = |_| format!("test-{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let tokens = Self { secrets: Who::ALL.map(secret), directory: directory.to_owned() };
        for service in Service::BOTH {
            let mut lines = String::new();
            // Each is known everywhere, so that what a role may not do is refused as such.
            for who in Who::ALL {
                let hash = hex(&hash(tokens.secret(who).as_bytes()));
                writeln!(lines, "{} {} {hash}", who.role(), tokens.principal(who)).context("a line")?;
            }
            std::fs::write(tokens.accepted_file(service), lines).context("the accepted tokens")?;
        }
        std::fs::write(tokens.peer_file(), tokens.secret(Who::Peer)).context("the peer's token")?;
        Ok(tokens)
    }

    /// Somebody's token.
    pub fn secret(&self, who: Who) -> &str {
        &self.secrets[who as usize]
    }

    /// What the services call them.
    pub fn principal(&self, who: Who) -> &'static str {
        match who {
            Who::Client => "client",
            Who::Other => "client2",
            Who::Operator => "operator",
            Who::Peer => "order",
        }
    }

    pub(super) fn accepted_file(&self, service: Service) -> PathBuf {
        self.directory.join(format!("accepted-by-{service}"))
    }

    pub(super) fn peer_file(&self) -> PathBuf {
        self.directory.join("peer")
    }
}
