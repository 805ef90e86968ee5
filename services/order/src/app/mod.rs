//! The use cases. Each runs to its end: neither a client's disconnect nor a timeout cancels it.
//!
//! Every command has the same three parts: a transaction that commits the intent, one call to inventory under a
//! derived key, and a transaction that records what is known afterwards ([`drive`]). The reconciler finishes
//! what was interrupted by entering at the second part.

pub mod drive;
pub mod lapse;
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

/// Everything a use case needs. Clones share it.
#[derive(Debug, Clone)]
pub struct App {
    parts: Arc<Parts>,
    /// Orders being placed at the same time share a transaction, and so do those that are moved on.
    placing: Batch<orders::Place, orders::Placed>,
    advancing: Batch<orders::Advance, bool>,
    /// Rows that this release cannot read.
    pub unreadable: UnreadableRows,
    served: Arc<Served>,
    reading: Arc<LastReading>,
}

/// The parts of [`App`].
#[derive(Debug)]
pub struct Parts {
    /// This service's database.
    pub database: Database,
    /// Seals this service's entries.
    pub journal: Journal,
    /// Its hybrid clock and those of inventory and other replicas.
    pub clocks: Clocks,
    /// The peer.
    pub inventory: Inventory,
    /// The breakers of the peer's endpoints.
    pub breakers: Breakers,
    /// How long inventory is asked to hold, in seconds.
    pub hold_seconds: i64,
    /// Wakes the reconciler before its next tick.
    pub nudge: Notify,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl App {
    /// Shares the parts.
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

    /// Whether inventory began to serve again since the last call: what waits need not wait any longer.
    pub fn take_recovered(&self) -> bool {
        self.served.take_recovered()
    }
}

/// Who asks for a change, under which key.
#[derive(Debug, Clone)]
pub struct Caller {
    /// On whose behalf.
    pub cause: Cause,
    /// The idempotency key's hash.
    pub key_hash: KeyHash,
    /// What the key stands for.
    pub fingerprint: [u8; 32],
    /// Deadline, correlation, trace, decision trail.
    pub context: RequestContext,
}

impl Caller {
    /// `principal`, with the key that `key_hash` is of, for the request `fingerprint`.
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

/// Tells whoever waits for the use case that its intent is committed, so that it can answer 202 when the
/// deadline ends first.
pub type Begun = oneshot::Sender<Arc<Order>>;

/// How a command ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// With a final reply, now stored.
    Final(StoredReply),
    /// With the final reply of an earlier request under the same key.
    Replayed(StoredReply),
    /// Not yet: the order as it stands.
    Pending(Arc<Order>),
    /// Not by this release: the order stands in a status that it does not know.
    Foreign(Box<StoredOrder>),
}

impl Done {
    /// The order as it stands.
    fn pending(order: StoredOrder) -> Self {
        match order.clone().known() {
            Ok(order) => Self::Pending(Arc::new(order)),
            Err(_) => Self::Foreign(Box::new(order)),
        }
    }
}

/// Why a command has no answer. Except where it says otherwise, nothing was changed and no key was claimed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No such order, or another principal's.
    #[error("no such order")]
    NotFound,
    /// The key stands for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// A request under the same key is being worked on.
    #[error("a request with this idempotency key is in flight")]
    InFlight,
    /// The order is on its way somewhere else.
    #[error("the order is {from:?} and cannot become {to:?} yet")]
    NotYet {
        /// Where it stands.
        from: Status,
        /// Where it was to go.
        to: Status,
    },
    /// The order is in a status that this release does not know.
    #[error("the order is {from:?}, which this release does not know")]
    Foreign {
        /// The status as it is stored.
        from: String,
        /// Where the order was to go.
        to: Status,
    },
    /// The database did not do it, or did not say.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The key is taken, and the database did not say what became of the request that took it.
    #[error("what became of the key's first request could not be read: {0}")]
    Unread(#[source] DatabaseError),
}
