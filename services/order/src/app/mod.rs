//! The use cases. Each runs to its end: neither a client's disconnect nor a timeout cancels it.
//!
//! Every command has the same three parts: a transaction that commits the intent, one call to inventory under a
//! derived key, and a transaction that records inventory's answer ([`drive`]). The reconciler finishes an interrupted
//! command: it starts at the second part.

pub mod drive;
pub mod expire;
pub mod place;
pub mod read;
pub mod reading;
pub mod repeat;
pub mod replies;
pub mod requests;
mod served;
pub mod view;
pub mod wish;

use std::sync::Arc;

use chassis::UnreadableRows;
use chassis::clocks::Clocks;
use journal::idempotency::{Claim, KeyHash, StoredReply};
use journal::{Batch, Cause, Database, DatabaseError, Journal};
use mainstay::RequestContext;
use mainstay::breaker::Breakers;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use self::reading::LastReading;
use self::served::Served;
use crate::clients::Inventory;
use crate::domain::Status;
use crate::store::{Order, StoredOrder, orders};

/// The use cases with everything that they need. Clones share it.
#[derive(Debug, Clone)]
pub struct App {
    parts: Arc<Parts>,
    /// Orders that are placed at the same time share a transaction.
    placing: Batch<orders::Place, orders::Placed>,
    /// Transitions that are recorded at the same time share a transaction.
    advancing: Batch<orders::Advance, bool>,
    /// Rows that this release cannot read.
    pub unreadable: UnreadableRows,
    served: Arc<Served>,
    reading: Arc<LastReading>,
}

/// The shared parts of [`App`].
#[derive(Debug)]
pub struct Parts {
    /// The order service's database.
    pub database: Database,
    /// The writer of the order service's journal entries.
    pub journal: Journal,
    /// The hybrid clock of this process, which adopts times of inventory and of other replicas.
    pub clocks: Clocks,
    /// The client of inventory.
    pub inventory: Inventory,
    /// The breakers of inventory's endpoints.
    pub breakers: Breakers,
    /// Length of the holds that inventory is asked for, in seconds.
    pub hold_seconds: i64,
    /// Signal that wakes the reconciler before its next tick.
    pub nudge: Notify,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl App {
    /// Makes the use cases from their parts.
    pub fn new(parts: Parts) -> Self {
        let placing = Batch::new(
            parts.database.clone(),
            |new: &orders::Place| new.order.lines.len(),
            |connection, new| Box::pin(orders::place(connection, new)),
        );
        let advancing = Batch::new(
            parts.database.clone(),
            |all: &orders::Advance| all.from.lines.len(),
            |connection, all| Box::pin(orders::advance(connection, all)),
        );
        Self {
            parts: Arc::new(parts),
            placing,
            advancing,
            unreadable: UnreadableRows::new(&["orders", "journal"]),
            served: Arc::default(),
            reading: Arc::new(LastReading::new()),
        }
    }

    /// True if inventory began to serve again since the last call of this function. Waiting orders can then be tried at
    /// once.
    pub fn take_recovered(&self) -> bool {
        self.served.take_recovered()
    }
}

/// The client request that asks for a change: principal, idempotency key and context.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Principal, key hash, correlation id and trace id for the journal.
    pub cause: Cause,
    /// Hash of the idempotency key.
    pub key_hash: KeyHash,
    /// Fingerprint of the request that the key stands for.
    pub fingerprint: [u8; 32],
    /// Deadline, correlation id, trace and decision trail of the request.
    pub context: RequestContext,
}

impl Caller {
    /// A request of `principal` with a key and a fingerprint.
    pub fn new(
        principal: Arc<str>,
        key_hash: KeyHash,
        fingerprint: [u8; 32],
        context: RequestContext,
    ) -> Self {
        let cause = Cause {
            principal,
            key_hash: Some(key_hash),
            correlation_id: context.correlation_id.as_str().into(),
            trace_id: Some(context.trace.trace_id_hex().into()),
        };
        Self { cause, key_hash, fingerprint, context }
    }

    fn claim(&self, command: &'static str, order: Uuid) -> Claim {
        Claim {
            principal: Arc::clone(&self.cause.principal),
            key_hash: self.key_hash,
            fingerprint: self.fingerprint,
            command,
            aggregate_id: order,
        }
    }
}

/// Tells the waiting request that the use case's intent is committed, so that the request can answer 202 when its
/// deadline ends before the use case.
pub type IntentCommitted = oneshot::Sender<Arc<Order>>;

/// Result of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// A final reply, which is now stored.
    Final(StoredReply),
    /// The final reply of an earlier request under the same key.
    Replayed(StoredReply),
    /// No final reply yet: the order in its present state.
    Pending(Arc<Order>),
    /// No final reply from this release: it does not know the order's status.
    Foreign(Box<StoredOrder>),
}

impl Done {
    /// The result without a final reply.
    fn pending(order: StoredOrder) -> Self {
        match order.clone().known() {
            Ok(order) => Self::Pending(Arc::new(order)),
            Err(_) => Self::Foreign(Box::new(order)),
        }
    }
}

/// Reason why a command has no result. Nothing was changed and no key was claimed, except where a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The order does not exist, or belongs to another principal.
    #[error("no such order")]
    NotFound,
    /// The key stands for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// A request under the same key is in flight.
    #[error("a request with this idempotency key is in flight")]
    InFlight,
    /// The order's status does not allow the command now and may allow it later.
    #[error("the order is {from:?} and cannot become {to:?} yet")]
    NotYet {
        /// Status of the order.
        from: Status,
        /// Status that the command aims at.
        to: Status,
    },
    /// The order is in a status that this release does not know.
    #[error("the order is {from:?}, which this release does not know")]
    Foreign {
        /// The status as it is stored.
        from: String,
        /// Status that the command aims at.
        to: Status,
    },
    /// The database failed, or did not report the outcome.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The key is taken, and the database did not report the outcome of the request that took it.
    #[error("the outcome of the key's first request could not be read: {0}")]
    Unread(#[source] DatabaseError),
}
