use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::RunningPair;
use crate::Service;

/// Everything that a script needs to drive the pair. `mainstay up --json` prints exactly these members. They include
/// tokens and passwords.
#[derive(Clone, Serialize, Deserialize)]
pub struct Ready {
    pub order: String,
    pub inventory: String,
    pub order_ops: String,
    pub inventory_ops: String,
    pub tokens: ReadyTokens,
    pub databases: Databases,
    pub pids: Pids,
    pub data_dir: PathBuf,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Ready");
        debug.field("order", &self.order).field("inventory", &self.inventory).field("pids", &self.pids);
        debug.finish_non_exhaustive()
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct ReadyTokens {
    pub client: String,
    pub client2: String,
    pub operator: String,
}

impl std::fmt::Debug for ReadyTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadyTokens(…)")
    }
}

/// Database URLs with the roles that the services themselves use.
#[derive(Clone, Serialize, Deserialize)]
pub struct Databases {
    pub order: String,
    pub inventory: String,
}

impl std::fmt::Debug for Databases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Databases(…)")
    }
}

/// Process ids. `None` while a process is dead; PostgreSQL's also when the server is not private.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pids {
    pub order: Option<u32>,
    pub inventory: Option<u32>,
    pub postgres: Option<u32>,
}

impl Ready {
    pub(super) fn of(pair: &RunningPair) -> Self {
        let token = |token: &super::Token| token.secret.expose().to_owned();
        Self {
            order: pair.url(Service::Order),
            inventory: pair.url(Service::Inventory),
            order_ops: pair.ops_url(Service::Order),
            inventory_ops: pair.ops_url(Service::Inventory),
            tokens: ReadyTokens {
                client: token(&pair.tokens.client),
                client2: token(&pair.tokens.client2),
                operator: token(&pair.tokens.operator),
            },
            databases: Databases {
                order: pair.database(Service::Order).serving.clone(),
                inventory: pair.database(Service::Inventory).serving.clone(),
            },
            pids: Pids {
                order: pair.pid(Service::Order),
                inventory: pair.pid(Service::Inventory),
                postgres: pair.server.pid(),
            },
            data_dir: pair.home().to_owned(),
        }
    }
}
