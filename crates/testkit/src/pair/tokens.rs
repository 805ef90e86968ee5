//! Principals of a test and their tokens.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use journal::entry::hash;
use journal::hex;
use local::Service;
use uuid::Uuid;

/// The principals of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// First client.
    Client,
    /// Second client, which must not see the first client's orders.
    Other,
    /// Operator of both services.
    Operator,
    /// The order service as a caller of inventory.
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

/// A random token for each principal.
#[derive(Debug, Clone)]
pub struct Tokens {
    secrets: [String; 4],
    directory: PathBuf,
}

impl Tokens {
    /// Creates the tokens and writes the token files of the services into `directory`.
    pub(super) fn create(directory: &Path) -> anyhow::Result<Self> {
        let secret = |_| format!("test-{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let tokens = Self { secrets: Who::ALL.map(secret), directory: directory.to_owned() };
        for service in Service::BOTH {
            let mut lines = String::new();
            // Both services know every principal, so that a wrong role is refused with 403 and not with 401.
            for who in Who::ALL {
                let hash = hex(&hash(tokens.secret(who).as_bytes()));
                writeln!(lines, "{} {} {hash}", who.role(), tokens.principal(who))
                    .context("formatting a token line")?;
            }
            std::fs::write(tokens.accepted_file(service), lines).context("writing the accepted tokens")?;
        }
        std::fs::write(tokens.peer_file(), tokens.secret(Who::Peer)).context("writing the peer's token")?;
        Ok(tokens)
    }

    /// Token of a principal.
    pub fn secret(&self, who: Who) -> &str {
        &self.secrets[who as usize]
    }

    /// Name of a principal in the services.
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
