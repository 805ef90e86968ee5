//! The use cases. Each runs to its end: neither a client's disconnect nor a timeout cancels it.
//!
//! Every command has the same three parts: commit the intent, ask inventory under a derived key, record inventory's
//! answer ([`advance`]). The reconciler finishes an interrupted command: it starts at the second part.

pub mod advance;
mod customer_command;
mod expire;
pub(crate) mod meters;
pub mod place;
mod reads;
mod recent_answers;
mod repeat;
pub mod stored_replies;
mod unresolved;

use std::sync::Arc;

use chassis::UnreadableRows;
use chassis::clocks::Clocks;
use journal::{Cause, Claim, Database, DatabaseError, Journal, KeyHash, StoredReply};
use mainstay::RequestContext;
use mainstay::breaker::Breakers;
use mainstay::random::Random;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use self::advance::Driver;
use self::recent_answers::RecentAnswers;
use self::unresolved::LastReading;
use crate::clients::Inventory;
use crate::domain::Status;
use crate::store::{Order, Store};

pub use stored_replies::{OrderView, ReservationView};

/// The use cases with everything that they need.
#[derive(Debug)]
pub struct App {
    /// The orders and their journal.
    pub store: Store,
    /// The hybrid clock of this process, which adopts times of inventory and of other replicas.
    clocks: Clocks,
    /// The client of inventory.
    inventory: Inventory,
    /// The breakers of inventory's endpoints.
    pub breakers: Breakers,
    /// Length of the holds that inventory is asked for, in seconds.
    hold_seconds: i64,
    /// Signal that wakes the reconciler before its next tick.
    pub nudge: Notify,
    /// Rows that this release cannot read.
    pub unreadable: UnreadableRows,
    recent_answers: RecentAnswers,
    reading: LastReading,
    random: Random,
}

impl App {
    /// The use cases over `database`, with entries of `journal`, the client of inventory and the breakers of its endpoints.
    pub fn new(
        database: Database,
        journal: Journal,
        inventory: Inventory,
        breakers: Breakers,
        hold_seconds: i64,
    ) -> Arc<Self> {
        meters::start();
        Arc::new(Self {
            clocks: Clocks::new(&journal, "inventory"),
            store: Store::new(database, journal),
            inventory,
            breakers,
            hold_seconds,
            nudge: Notify::new(),
            unreadable: UnreadableRows::new(&["orders", "journal"]),
            recent_answers: RecentAnswers::default(),
            reading: LastReading::new(),
            random: Random::from_entropy(),
        })
    }

    /// True if inventory began to serve again since the last call of this function. Waiting orders can then be tried at
    /// once.
    pub fn take_recovered(&self) -> bool {
        self.recent_answers.take_recovered()
    }
}

/// A client request for a change: principal, idempotency key and request context.
#[derive(Debug, Clone)]
pub struct CommandContext {
    /// The request as the driver of an order.
    pub driver: Driver,
    /// Hash of the idempotency key.
    pub key_hash: KeyHash,
    /// Fingerprint of the request that the key stands for.
    pub fingerprint: [u8; 32],
}

impl CommandContext {
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
        Self { driver: Driver { context, cause }, key_hash, fingerprint }
    }

    fn claim(&self, command: &'static str, order: Uuid) -> Claim {
        Claim {
            principal: Arc::clone(&self.driver.cause.principal),
            key_hash: self.key_hash,
            fingerprint: self.fingerprint,
            command,
            aggregate_id: order,
        }
    }
}

/// Signal to the waiting request that the use case's intent is committed. The request can then answer 202 when its
/// deadline ends before the use case.
pub type IntentCommitted = oneshot::Sender<Arc<Order>>;

/// Result of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandResult {
    /// A final reply, which is now stored.
    Final(StoredReply),
    /// The final reply of an earlier request under the same key.
    Replayed(StoredReply),
    /// No final reply yet: the order in its present state.
    Pending(OrderView),
}

/// Reason why a command has no result. Nothing was changed and no key was claimed, except where a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
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
    UnknownStatus {
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
    KeyUnreadable(#[source] DatabaseError),
}
