//! The use cases, one file each.
//!
//! Each command is one transaction of the store: it finds the command's key, locks rows, decides by a function of
//! [`crate::domain::decisions`], and writes rows, entry and reply together. So there is no step that another process could
//! have to finish.

pub mod confirm;
pub mod expire;
pub mod items;
pub mod release;
pub mod reserve;
mod set_aside;

use std::sync::Arc;

use chassis::ops::Condition;
use journal::{Database, HybridTime, Journal};

use crate::domain::{ItemState, Status};
use crate::store::{Render, Store};
use set_aside::SetAside;

pub use crate::store::{CommandContext, CommandError, CommandResult};

/// The use cases with everything that they need. Clones share it.
#[derive(Debug, Clone)]
pub struct App {
    /// The store, which serves the reads too.
    pub store: Store,
    aside: Arc<SetAside>,
}

impl App {
    /// Makes the use cases over `database`. They write entries by `journal` and make replies by `render`.
    pub fn new(database: Database, journal: Journal, render: Render) -> Self {
        journal::meters::start_entries(Status::ALL);
        journal::meters::start_entries([ItemState::Stocked]);
        Self { store: Store::new(database, journal, render), aside: Arc::new(SetAside::new()) }
    }

    /// Conditions for readiness: holds that cannot be ended and rows that cannot be read. They are reported and never make
    /// the service unready.
    pub fn conditions(&self) -> Vec<Condition> {
        vec![self.aside.condition(), self.store.unreadable.condition()]
    }

    /// The inventory service's database.
    pub fn database(&self) -> &Database {
        &self.store.database
    }

    /// The service's hybrid time, which is after every entry that the service has read or written.
    pub fn clock(&self) -> HybridTime {
        self.store.journal.clock().tick()
    }
}
