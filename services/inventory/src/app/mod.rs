//! The use cases, one file each: where a transaction begins and ends, and what happens in it.
//!
//! Every command is one transaction that looks its key up, takes its locks, decides, and writes rows, entry and
//! reply together (`execute`). Nothing here knows of HTTP: the reply's bytes are made by a function that the
//! outside gives, because they have to be stored with the decision.

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
use execute::{Asked, Round};
pub use receive::Receive;
pub use release::Release;
pub use reserve::Reserve;
use set_aside::SetAside;

/// Makes the reply's bytes from what was decided; the text is the correlation id of the request.
pub type Render = fn(&Answer, &str) -> StoredReply;

/// The use cases and what they need. Clones share everything.
#[derive(Debug, Clone)]
pub struct Inventory(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    database: Database,
    journal: Journal,
    clocks: Clocks,
    render: Render,
    reserving: Batch<Asked<Reserve>, Round>,
    unreadable: UnreadableRows,
    aside: SetAside,
}

impl Inventory {
    /// Over `database`, recording in `journal`, answering in the words of `render`.
    pub fn new(database: Database, journal: Journal, render: Render) -> Self {
        let reserving = Batch::new(
            database.clone(),
            |asked: &Asked<Reserve>| asked.command.skus().count(),
            |connection, asked| Box::pin(reserve::all(connection, asked)),
        );
        let clocks = Clocks::new(&journal, "order");
        let (unreadable, aside) = (UnreadableRows::new(&["reservations"]), SetAside::new());
        Self(Arc::new(Parts { database, journal, clocks, render, reserving, unreadable, aside }))
    }

    /// Holds that cannot be ended and rows that cannot be read: reported, never deciding.
    pub fn conditions(&self) -> Vec<Condition> {
        vec![self.0.aside.condition(), self.0.unreadable.condition()]
    }

    /// Has the next sweep try every hold that was set aside.
    pub fn try_now(&self) {
        self.0.aside.try_now();
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.0.journal
    }

    /// The service's hybrid clock and those of the order service and other replicas.
    pub fn clocks(&self) -> &Clocks {
        &self.0.clocks
    }
}

/// Who asks, under which key, because of what, and until when.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The authenticated principal.
    pub principal: Arc<str>,
    /// Its idempotency key.
    pub key: KeyHash,
    /// What the key stands for from now on.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the canonical body, if there is one.
    pub payload_hash: Option<[u8; 32]>,
    /// The caller's journal entry that led to this.
    pub causation_id: Option<Uuid>,
    /// The clock of the order service, when it is the caller.
    pub clock: Option<HybridTime>,
    /// Correlation, trace, deadline, attempt, trail.
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

/// A final reply: from now on every repeat of the key gets the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What was stored.
    pub stored: StoredReply,
    /// The journal entry that decided it.
    pub entry_id: Option<Uuid>,
    /// Whether it was decided by an earlier request.
    pub replayed: bool,
}

/// Why there is no final reply.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The key was used for another request.
    #[error("the idempotency key stands for another request")]
    KeyReused,
    /// The key's first request is still running.
    #[error("the first request with this key is still running")]
    InFlight,
    /// No, for now.
    #[error("refused for now: {0:?}")]
    Refused(Box<Refusal>),
    /// Nothing was done.
    #[error(transparent)]
    NotExecuted(DatabaseError),
    /// It may have been done; a repeat with the same key tells.
    #[error("the outcome is unknown: {0}")]
    Unknown(#[source] DatabaseError),
}
