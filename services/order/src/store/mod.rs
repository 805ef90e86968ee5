//! All SQL and every transaction of the order service, behind the verbs of [`Store`].
//!
//! A write states the version and the epoch that it begins with, so a request or sweep that was overtaken writes nothing.
//! An unknown outcome of a COMMIT is resolved here, by reading back the key or the order that it wrote.

mod counts;
mod due;
mod order;
mod pages;
mod write;

use std::sync::Arc;

use journal::feed::{self, Filter};
use journal::idempotency::{claim, complete, find};
use journal::{
    Batch, Cause, Claim, Database, DatabaseError, Decided, Draft, Entry, Journal, KeyHash, KeyRow, Rule,
    Sealed, Step, StoredReply,
};
use mainstay::{Deadline, DecisionTrail};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use self::write::NextAttempt;
use crate::domain::Status;
use crate::domain::decisions::{Intend, Place};
use crate::domain::retry::{InconclusiveTry, Retry};

pub use counts::{StuckOrder, Unanswered, Unresolved, UnresolvedOrders, Waiting};
pub use due::{Due, TAKE_ENDED_HOLDS, TAKE_UNRESOLVED};
pub use order::{Order, STUCK, StoredOrder, StoredStatus, Unreadable};
pub use pages::{FoundOrders, PAGE_LINES, PAGES, Page};
pub use write::{CREATE, TRANSITION};

/// The service's own migrations, after the journal's.
pub const MIGRATIONS: [(i64, &str, &str); 5] = [
    (1001, "order", include_str!("../../../../migrations/order/1001_order.sql")),
    (1002, "entries", include_str!("../../../../migrations/order/1002_entries.sql")),
    (1005, "stuck", include_str!("../../../../migrations/order/1005_stuck.sql")),
    (1010, "tries without entry", include_str!("../../../../migrations/order/1010_tries_without_entry.sql")),
    (1011, "status since", include_str!("../../../../migrations/order/1011_status_since.sql")),
];

/// Limit on entries of one history. It is more than any order has: the longest path has 6 transitions, which are also
/// fewer bytes than a page may have.
const HISTORY_LIMIT: i64 = 1_000;

/// The order service's database and the writer of its journal. Clones share them.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    journal: Journal,
    /// Orders that are placed at the same time share a transaction.
    creating: Batch<write::NewOrder, write::Created>,
    /// Transitions that are recorded at the same time share a transaction.
    moving: Batch<write::Transition, bool>,
}

/// The facts of a journal entry beside its decision.
#[derive(Debug, Clone, Copy)]
pub struct EntryFacts<'a> {
    /// Name of the command or step.
    pub command: &'static str,
    /// Principal, key hash, correlation id and trace id.
    pub cause: &'a Cause,
    /// Id of the entry that caused this one; `None` for the first entry of a request.
    pub causation_id: Option<Uuid>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Decisions of the middleware, which are the evidence.
    pub trail: &'a DecisionTrail,
    /// Tries of the step, the recorded one included.
    pub tries: Option<i32>,
    /// SHA-256 of the request to inventory that the entry announces.
    pub payload_hash: Option<[u8; 32]>,
}

/// The action for a customer's command on an order whose row is locked.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandDecision {
    /// The command begins with this decision.
    Begin(Intend),
    /// The order is at rest, and the command gets this reply.
    Reply(StoredReply),
    /// The order's status does not allow the command now, and may allow it later.
    NotYet,
}

/// Result of [`Store::begin_command`]. Only `Intent` and `Reply` have claimed the key.
#[derive(Debug, Clone, PartialEq)]
pub enum Begun {
    /// The intent is committed.
    Intent(Arc<Order>),
    /// The order is at rest. The reply is stored under the key.
    Reply(StoredReply),
    /// The key is taken.
    KeyTaken,
    /// The principal has no such order.
    NotFound,
    /// The order's status does not allow the command now.
    NotYet(Status),
    /// This release does not know the order's status.
    UnknownStatus(String),
}

/// An order after a transition, and the replies that were stored with it, by command.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// The order after the transition.
    pub order: Arc<Order>,
    /// Replies for the keys that waited for the new status.
    pub replies: Vec<(&'static str, StoredReply)>,
}

impl Store {
    /// The verbs over `database`, with entries of `journal`.
    pub fn new(database: Database, journal: Journal) -> Self {
        let creating = Batch::new(
            database.clone(),
            |new: &write::NewOrder| new.order.lines.len(),
            |connection, new| Box::pin(write::create(connection, new)),
        );
        let moving = Batch::new(
            database.clone(),
            |all: &write::Transition| all.from.lines.len(),
            |connection, all| Box::pin(write::transition(connection, all)),
        );
        Self { database, journal, creating, moving }
    }

    /// The database, for probes, the retention of keys, and shutdown.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The writer of the journal's entries.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Creates the order `key.aggregate_id` with its first entry and a request's lease, and claims `key`. `None` when the key
    /// is taken: nothing was written.
    ///
    /// # Errors
    /// [`DatabaseError::Deadline`] when the order could not be created before `deadline`. Nothing was written.
    pub async fn create(
        &self,
        intent: &Place,
        key: Claim,
        deadline: Deadline,
        facts: EntryFacts<'_>,
    ) -> Result<Option<Arc<Order>>, DatabaseError> {
        let id = key.aggregate_id;
        let (status, sealed) = self.seal(id, None, intent, facts);
        let order = Arc::new(Order {
            id,
            principal: Arc::clone(&key.principal),
            customer_id: Arc::clone(&intent.customer_id),
            lines: Arc::clone(&intent.lines),
            status,
            reservation_id: intent.reservation_id,
            hold_seconds: intent.hold_seconds,
            expires_at: None,
            correlation_id: Arc::clone(&facts.cause.correlation_id),
            trace_id: facts.cause.trace_id.clone(),
            created_at: sealed.at,
            updated_at: sealed.at,
            version: sealed.version,
            head_hash: sealed.hash,
            head_entry: sealed.id,
            head_clock: sealed.hlc,
            head_correlation_id: Arc::clone(&sealed.correlation_id),
            epoch: 1,
            in_flight: true,
            tries: 0,
            failed_alone: 0,
        });
        let until = Some(deadline.instant());
        let new = Arc::new(write::NewOrder {
            order: Arc::clone(&order),
            sealed,
            key,
            lease_ms: due::lease_ms(deadline),
            deadline: deadline.instant(),
        });
        match self.creating.write(until, Arc::clone(&new)).await {
            Ok(write::Created::New) => Ok(Some(order)),
            Ok(write::Created::KeyTaken) => Ok(None),
            Ok(write::Created::TooLate) => Err(DatabaseError::Deadline),
            // COMMIT outcome unknown: it succeeded if the key belongs to this order.
            Err(unknown @ DatabaseError::Unknown(_)) => {
                match self.find_by_key(&new.key.principal, new.key.key_hash, until).await {
                    Ok(Some((row, _))) if row.aggregate_id == id => Ok(Some(order)),
                    Ok(Some(_)) => Ok(None),
                    Ok(None) | Err(_) => Err(unknown),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Begins a customer's command on the order `key.aggregate_id`: claims `key`, locks the row, and writes what `decide`
    /// decides about the order. `decide` can run several times.
    ///
    /// # Errors
    /// [`DatabaseError::Deadline`] when the row was not locked before `deadline`. Nothing was written.
    pub async fn begin_command(
        &self,
        key: &Claim,
        deadline: Deadline,
        facts: EntryFacts<'_>,
        decide: &(dyn Fn(&Order) -> CommandDecision + Sync),
    ) -> Result<Begun, DatabaseError> {
        let input = (self, key, deadline, facts, decide);
        let begun = self.database.alone(Some(deadline.instant()), input, |connection, input| {
            let &(store, key, deadline, facts, decide) = input;
            Box::pin(async move {
                if !claim(connection, key).await? {
                    return Ok(Step::Rollback(Some(Begun::KeyTaken)));
                }
                let order = match order::lock(connection, key.aggregate_id, &key.principal).await? {
                    Some(Ok(order)) => order,
                    Some(Err(status)) => return Ok(Step::Rollback(Some(Begun::UnknownStatus(status)))),
                    None => return Ok(Step::Rollback(Some(Begun::NotFound))),
                };
                // Another transaction may have held the row for long.
                if deadline.has_passed() {
                    return Ok(Step::Rollback(None));
                }
                match decide(&order) {
                    CommandDecision::Begin(intent) => {
                        let lease = NextAttempt::Lease(due::lease_ms(deadline));
                        let transition =
                            store.moved(Arc::new(order), &intent, facts, None, |_| lease, |_| Vec::new());
                        let moved = Arc::clone(&transition.moved);
                        match write::transition(connection, &[Arc::new(transition)]).await? {
                            Step::Commit(_) => Ok(Step::Commit(Some(Begun::Intent(moved)))),
                            Step::Rollback(_) => Err(order::corrupt("a locked row was changed")),
                        }
                    }
                    CommandDecision::Reply(reply) => {
                        complete(connection, key, &reply).await?;
                        Ok(Step::Commit(Some(Begun::Reply(reply))))
                    }
                    CommandDecision::NotYet => Ok(Step::Rollback(Some(Begun::NotYet(order.status)))),
                }
            })
        });
        begun.await?.ok_or(DatabaseError::Deadline)
    }

    /// Moves an order as `rule` decides, and stores the replies to the new state. An order that stays unresolved is tried
    /// again at `retry`. `None` when the order was overtaken: nothing was written.
    pub async fn transition<R: Rule<State = Status>>(
        &self,
        order: Arc<Order>,
        rule: &R,
        facts: EntryFacts<'_>,
        expires_at: Option<OffsetDateTime>,
        retry: Retry,
        replies: impl FnOnce(&Order) -> Vec<(&'static str, StoredReply)>,
    ) -> Result<Option<Moved>, DatabaseError> {
        let id = order.id;
        let due = |status: Status| {
            if status.is_unresolved() { NextAttempt::Backoff(retry) } else { NextAttempt::AtRest }
        };
        let transition = Arc::new(self.moved(order, rule, facts, expires_at, due, replies));
        let written = self.moving.write(None, Arc::clone(&transition)).await;
        let write::Transition { moved, replies, .. } = Arc::unwrap_or_clone(transition);
        let is_written = match written {
            // COMMIT outcome unknown: it succeeded if the row's head is our entry.
            Err(DatabaseError::Unknown(_)) => {
                let now = self.find(None, id, None).await?;
                now.is_some_and(|now| now.head_entry == moved.head_entry)
            }
            known => known?,
        };
        Ok(is_written.then_some(Moved { order: moved, replies }))
    }

    /// Ends the lease without a transition, and counts the last try. `false` when the order was overtaken: nothing was
    /// written.
    pub async fn retry_later(
        &self,
        order: &Order,
        retry: Retry,
        last: &InconclusiveTry,
    ) -> Result<bool, DatabaseError> {
        let put_back =
            self.database.alone(None, (order, retry, last), |connection, &(order, retry, last)| {
                Box::pin(
                    async move { Ok(Step::Commit(due::put_back(connection, order, retry, last).await?)) },
                )
            });
        put_back.await
    }

    /// Takes at most `limit` due orders for the reconciler. Gives the orders and the rows that cannot be read.
    pub async fn claim_due(
        &self,
        due: Due,
        limit: i64,
    ) -> Result<(Vec<Order>, Vec<Unreadable>), DatabaseError> {
        let taken = self.database.transaction(None, (due, limit), |connection, &(due, limit)| {
            Box::pin(async move { Ok(Step::Commit(due::take(connection, due, limit).await?)) })
        });
        taken.await
    }

    /// Ends every back-off. Running leases stay.
    pub async fn make_due_now(&self) -> Result<(), DatabaseError> {
        let made_due = self.database.transaction(None, (), |connection, ()| {
            Box::pin(async move { Ok(Step::Commit(due::make_due_now(connection).await?)) })
        });
        made_due.await
    }

    /// Finds an order. With `principal`, only an order of that principal is found.
    pub async fn find(
        &self,
        deadline: Option<Instant>,
        id: Uuid,
        principal: Option<&str>,
    ) -> Result<Option<StoredOrder>, DatabaseError> {
        let found = self.database.read(deadline, (id, principal), |connection, &(id, principal)| {
            Box::pin(order::get(connection, id, principal))
        });
        found.await
    }

    /// Finds an idempotency key, and its order while the key has no reply.
    pub async fn find_by_key(
        &self,
        principal: &str,
        key: KeyHash,
        deadline: Option<Instant>,
    ) -> Result<Option<(KeyRow, Option<StoredOrder>)>, DatabaseError> {
        let found = self.database.read(deadline, (principal, key), |connection, &(principal, key)| {
            Box::pin(async move {
                let Some(row) = find(connection, principal, &key).await? else { return Ok(None) };
                let order = match row.reply {
                    Some(_) => None,
                    None => order::get(connection, row.aggregate_id, None).await?,
                };
                Ok(Some((row, order)))
            })
        });
        found.await
    }

    /// Lists a page of orders.
    pub async fn list(&self, deadline: Option<Instant>, page: &Page) -> Result<FoundOrders, DatabaseError> {
        self.database.read(deadline, page, |connection, page| Box::pin(pages::list(connection, page))).await
    }

    /// Reads every entry of one order, oldest first. An entry that this release cannot read is given as its number and
    /// its fault.
    pub async fn history(
        &self,
        deadline: Instant,
        id: Uuid,
    ) -> Result<Vec<Result<Entry<'static>, (i64, String)>>, DatabaseError> {
        let wanted = (self.journal.service(), Filter::Aggregate(id));
        let page = self.database.read(Some(deadline), wanted, |connection, (service, filter)| {
            Box::pin(feed::find(connection, service, filter, HISTORY_LIMIT))
        });
        let entries = page.await?.items.into_iter();
        let read = entries.map(|item| {
            serde_json::from_str(item.entry.get()).map_err(|fault| (item.seq, fault.to_string()))
        });
        Ok(read.collect())
    }

    /// Counts the unresolved orders, and those that have been in their status for longer than `seconds`. Names at most
    /// `limit` stuck orders, and as many in a status that this release does not know.
    pub async fn unresolved(
        &self,
        deadline: Option<Instant>,
        seconds: f64,
        limit: i64,
    ) -> Result<UnresolvedOrders, DatabaseError> {
        let counted = self.database.read(deadline, (seconds, limit), |connection, &(seconds, limit)| {
            Box::pin(async move {
                Ok(UnresolvedOrders {
                    by_status: counts::unresolved(connection, seconds).await?,
                    stuck: counts::stuck(connection, limit).await?,
                    of_unknown_status: counts::of_unknown_status(connection, limit).await?,
                })
            })
        });
        counted.await
    }

    /// Reads how an order waits, and its commands without a final reply.
    pub async fn waiting(
        &self,
        deadline: Instant,
        id: Uuid,
    ) -> Result<Option<(Waiting, Vec<Unanswered>)>, DatabaseError> {
        let read = self
            .database
            .read(Some(deadline), id, |connection, id| Box::pin(counts::waiting(connection, *id)));
        read.await
    }

    /// The transition of `order` that `rule` decides.
    fn moved<R: Rule<State = Status>>(
        &self,
        order: Arc<Order>,
        rule: &R,
        facts: EntryFacts<'_>,
        expires_at: Option<OffsetDateTime>,
        due: impl FnOnce(Status) -> NextAttempt,
        replies: impl FnOnce(&Order) -> Vec<(&'static str, StoredReply)>,
    ) -> write::Transition {
        let (status, sealed) = self.seal(order.id, Some(&order), rule, facts);
        let due = due(status);
        let moved = Arc::new(order.after(status, &sealed, expires_at.or(order.expires_at), due));
        let replies = replies(&moved);
        write::Transition { from: order, moved, due, sealed, replies }
    }

    /// Executes `rule`, and seals the entry that records it.
    fn seal<R: Rule<State = Status>>(
        &self,
        id: Uuid,
        order: Option<&Order>,
        rule: &R,
        facts: EntryFacts<'_>,
    ) -> (Status, Sealed) {
        let EntryFacts { command, cause, causation_id, attempt, trail, tries, payload_hash } = facts;
        let (status, decided) = Decided::by(rule);
        let evidence = chassis::evidence(trail, tries);
        let head = order.map(Order::head);
        let draft = Draft {
            aggregate_id: id,
            head,
            command,
            cause,
            causation_id,
            decided,
            attempt,
            evidence,
            payload_hash,
        };
        (status, self.journal.seal(draft))
    }
}
