//! The use cases, one file each.
//!
//! Every command is one transaction that finds its key, takes its locks, decides, and writes rows, entry and reply together
//! (`execute`). No use case depends on HTTP: the function [`Render`] makes the bytes of the reply, because the transaction
//! stores them with the decision.

pub mod answer;
pub mod confirm;
pub mod create_item;
mod execute;
pub mod expire;
pub mod read;
pub mod receive;
pub mod release;
pub mod reserve;
mod set_aside;

use std::sync::Arc;

use chassis::UnreadableRows;
use chassis::clocks::Clocks;
use chassis::ops::Condition;
use journal::{Batch, Cause, Database, DatabaseError, HybridTime, Journal, KeyHash, StoredReply};
use mainstay::RequestContext;
use uuid::Uuid;

pub use answer::{Answer, Refusal};
pub use confirm::Confirm;
pub use create_item::CreateItem;
use execute::{CommandRequest, Round};
pub use receive::Receive;
pub use release::Release;
pub use reserve::Reserve;
use set_aside::SetAside;

/// Function that makes the reply's bytes from the answer and the correlation id of the request.
pub type Render = fn(&Answer, &str) -> StoredReply;

/// The use cases with everything that they need. Clones share it.
#[derive(Debug, Clone)]
pub struct Inventory(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    database: Database,
    journal: Journal,
    clocks: Clocks,
    render: Render,
    reserving: Batch<CommandRequest<Reserve>, Round>,
    unreadable: UnreadableRows,
    aside: SetAside,
}

impl Inventory {
    /// Makes the use cases over `database`. They write entries by `journal` and make replies by `render`.
    pub fn new(database: Database, journal: Journal, render: Render) -> Self {
        let reserving = Batch::new(
            database.clone(),
            |asked: &CommandRequest<Reserve>| asked.command.skus().count(),
            |connection, asked| Box::pin(reserve::all(connection, asked)),
        );
        let clocks = Clocks::new(&journal, "order");
        let (unreadable, aside) = (UnreadableRows::new(&["reservations"]), SetAside::new());
        Self(Arc::new(Parts { database, journal, clocks, render, reserving, unreadable, aside }))
    }

    /// Conditions for readiness: holds that cannot be ended and rows that cannot be read. They are reported and never make
    /// the service unready.
    pub fn conditions(&self) -> Vec<Condition> {
        vec![self.0.aside.condition(), self.0.unreadable.condition()]
    }

    /// Makes every hold that was set aside due for the next sweep.
    pub fn try_now(&self) {
        self.0.aside.try_now();
    }

    /// The inventory service's database.
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// The writer of the inventory service's journal entries.
    pub fn journal(&self) -> &Journal {
        &self.0.journal
    }

    /// The hybrid clock of this process, which adopts times of the order service and of other replicas.
    pub fn clocks(&self) -> &Clocks {
        &self.0.clocks
    }
}

/// The request that asks for a command: principal, idempotency key, cause and deadline.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The authenticated principal.
    pub principal: Arc<str>,
    /// Hash of the idempotency key.
    pub key: KeyHash,
    /// Fingerprint of the request that the key stands for.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the canonical body, if there is one.
    pub payload_hash: Option<[u8; 32]>,
    /// Id of the caller's journal entry that led to the request.
    pub causation_id: Option<Uuid>,
    /// Time of the order service's hybrid clock, when it is the caller.
    pub clock: Option<HybridTime>,
    /// Correlation id, trace, deadline, attempt and decision trail of the request.
    pub context: RequestContext,
}

impl Ask {
    fn cause(&self) -> Cause {
        Cause {
            principal: Arc::clone(&self.principal),
            key_hash: Some(self.key),
            correlation_id: self.context.correlation_id.as_str().into(),
            trace_id: Some(self.context.trace.trace_id_hex().into()),
        }
    }
}

/// A final reply. Every repeat of the key gets the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The stored reply.
    pub stored: StoredReply,
    /// Id of the journal entry that decided it.
    pub entry_id: Option<Uuid>,
    /// True if an earlier request decided it.
    pub replayed: bool,
}

/// Reason why a command has no final reply.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The key was used for another request.
    #[error("the idempotency key stands for another request")]
    KeyReused,
    /// The key's first request is still running.
    #[error("the first request with this key is still running")]
    InFlight,
    /// The command is refused in the present state; a later repeat may succeed.
    #[error("refused for now: {0:?}")]
    Refused(Box<Refusal>),
    /// The transaction did not commit, so nothing changed.
    #[error(transparent)]
    NotExecuted(DatabaseError),
    /// The transaction may have committed. A repeat with the same key gives the outcome.
    #[error("the outcome is unknown: {0}")]
    Unknown(#[source] DatabaseError),
}
