//! Execution of a command in one transaction: key, locks, decision, rows, entry and reply.
//!
//! When two requests have the same key, the primary key of the idempotency table lets one commit. The other is rolled back,
//! starts again and finds the reply. The same repeat resolves a COMMIT whose answer was lost: it waits until the lost
//! transaction has ended, and then replays its reply or does the work.

use std::sync::Arc;
use std::time::Duration;

use journal::{
    Cause, Claim, DatabaseError, Decided, Draft, HybridTime, KeyHash, Rule, Sealed, Step, StoredReply,
};
use mainstay::RequestContext;
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Store, StoredHead, is_of_one_write, is_race, reservations};
use crate::domain::{Decision, Outcome, Refusal};

/// Limit on restarts after a lost race for a row. Each round lets one of the requests commit; so many rounds within one
/// request would need a caller that repeats on purpose.
const RESTARTS: u32 = 4;

/// Number of pauses before a repeat that resolves a lost COMMIT: 50, 100, 200, 400 ms, within the deadline. A database
/// server that restarts needs that long.
const LOST_COMMIT_REPEATS: u32 = 4;

/// The request that asks for a command: principal, idempotency key, cause and deadline.
#[derive(Debug, Clone)]
pub struct CommandContext {
    /// Principal, key hash, correlation id and trace id for the journal.
    pub cause: Cause,
    /// Hash of the idempotency key.
    pub key_hash: KeyHash,
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

impl CommandContext {
    /// A request of `principal` with a key and a fingerprint, without a body or a cause in another journal.
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
        Self { cause, key_hash, fingerprint, payload_hash: None, causation_id: None, clock: None, context }
    }
}

/// Final reply to a command. Every repeat of the key gets the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandResult {
    /// The stored reply.
    pub stored: StoredReply,
    /// Id of the journal entry that decided it.
    pub entry_id: Option<Uuid>,
    /// True if an earlier request decided it.
    pub replayed: bool,
    /// Kind and new state of the object, if this request moved it.
    moved: Option<(&'static str, &'static str)>,
}

/// Reason why a command has no final reply.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// A request under the same key is in flight.
    #[error("a request with this idempotency key is in flight")]
    InFlight,
    /// The command is refused in the present state; a later repeat may succeed.
    #[error("refused for now: {0:?}")]
    NotYet(Box<Refusal>),
    /// The database refuses the values of this write, so nothing changed. It accepts other writes.
    #[error(transparent)]
    WriteRefused(DatabaseError),
    /// The transaction did not commit, so nothing changed.
    #[error(transparent)]
    NotExecuted(DatabaseError),
    /// The transaction may have committed. A repeat with the same key gives the outcome.
    #[error("the outcome is unknown: {0}")]
    Unknown(#[source] DatabaseError),
}

/// End of a command's transaction: a final reply, or the reason why there is none.
pub(super) type Ended = Result<CommandResult, CommandError>;

/// A command as the store executes it: it locks rows, decides, and writes. Each part can run several times, each time in
/// another transaction.
pub trait Command: Send + Sync + 'static {
    /// The rows that the command locked.
    type Found: Send + Sync;
    /// Rule of the decision.
    type Rule: Rule + Send + Sync;
    /// The object of the command: a reservation or an item.
    type Object: Send + Sync;

    /// Name of the command in the journal.
    fn name(&self) -> &'static str;

    /// Id of the aggregate that the command is about.
    fn aggregate_id(&self) -> Uuid;

    /// Locks and reads the rows that the decision reads.
    fn lock(
        &self,
        connection: &mut PgConnection,
    ) -> impl Future<Output = Result<Self::Found, sqlx::Error>> + Send;

    /// Decides. This is a function of the domain.
    fn decide(&self, found: &mut Self::Found) -> Decision<Self::Rule, Self::Object>;

    /// The newest entry of the aggregate.
    fn head(found: &Self::Found) -> Option<&StoredHead>;

    /// The entry that decided the present state, with its time. The time is `None` if it cannot be read.
    fn decided_by(found: &Self::Found) -> Option<(Uuid, Option<HybridTime>)> {
        Self::head(found).map(|head| (head.entry_id, Some(head.hlc)))
    }

    /// Writes the object after the transition, with its entry and the completed key.
    fn write(
        connection: &mut PgConnection,
        found: &Self::Found,
        transition: Transition<'_, Self::Object>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The refusal that follows when one of the command's unique constraints still refuses the write after all restarts.
    fn lost_race(&self, _race: &sqlx::Error) -> Option<Refusal> {
        None
    }
}

/// A decided transition, to be written.
#[derive(Debug)]
pub struct Transition<'a, T> {
    /// The object after the transition.
    pub after: T,
    /// Entry of the transition, which has the reason.
    pub sealed: Sealed,
    /// Claim of the idempotency key.
    pub claim: &'a Claim,
    /// Final reply to the key.
    pub reply: StoredReply,
}

impl<T> Transition<'_, T> {
    /// Result of the command once the transition is committed.
    pub(super) fn result(&self) -> CommandResult {
        CommandResult {
            stored: self.reply.clone(),
            entry_id: Some(self.sealed.id),
            replayed: false,
            moved: Some((self.sealed.aggregate_kind, self.sealed.to)),
        }
    }
}

/// A command with its context.
#[derive(Debug)]
pub(super) struct CommandRequest<C> {
    pub(super) command: C,
    store: Store,
    context: CommandContext,
    claim: Claim,
}

impl Store {
    /// Executes a command under its key, in a transaction of its own. Commands that wait for a row leave connections to
    /// the others.
    pub async fn execute<C: Command>(
        &self,
        context: CommandContext,
        command: C,
    ) -> Result<CommandResult, CommandError> {
        let request = self.request(context, command);
        let first = request.alone(false).await;
        request.conclude(first).await
    }

    pub(super) fn request<C: Command>(&self, context: CommandContext, command: C) -> CommandRequest<C> {
        if let Some(clock) = context.clock {
            self.clocks.adopt_peer(clock);
        }
        let claim = Claim {
            principal: Arc::clone(&context.cause.principal),
            key_hash: context.key_hash,
            fingerprint: context.fingerprint,
            command: command.name(),
            aggregate_id: command.aggregate_id(),
        };
        CommandRequest { command, store: self.clone(), context, claim }
    }
}

impl<C: Command> CommandRequest<C> {
    /// Deadline of the request.
    pub(super) fn deadline(&self) -> Instant {
        self.context.context.deadline.instant()
    }

    async fn alone(&self, find_first: bool) -> Result<Ended, DatabaseError> {
        let run = self.store.database.alone(Some(self.deadline()), self, move |connection, request| {
            Box::pin(request.run(connection, find_first))
        });
        run.await
    }

    /// Runs the command once in the caller's transaction, and finds its key unless the write shows that the key is new:
    /// the key is recorded together with the rows, and one key cannot be recorded twice. So the key is found first only
    /// when it is probably known (`find_first`). Otherwise it is found before any result that wrote nothing.
    pub(super) async fn run(
        &self,
        connection: &mut PgConnection,
        find_first: bool,
    ) -> Result<Step<Ended>, sqlx::Error> {
        if find_first && let Some(known) = self.find_key(connection).await? {
            return Ok(Step::Rollback(known));
        }
        let mut found = self.command.lock(connection).await?;
        let decision = (!self.is_late()).then(|| self.command.decide(&mut found));
        let is_new = find_first || matches!(decision, Some(Decision::Transition { .. }));
        if !is_new && let Some(known) = self.find_key(connection).await? {
            return Ok(Step::Rollback(known));
        }
        Ok(match decision {
            Some(Decision::Transition { rule, after, outcome }) => {
                let transition = self.transition(&rule, after, &outcome, C::head(&found));
                let result = transition.result();
                C::write(connection, &found, transition).await?;
                Step::Commit(Ok(result))
            }
            Some(Decision::Unchanged(outcome)) => {
                let decided_by = C::decided_by(&found).expect("an object that keeps its state has an entry");
                Step::Commit(Ok(self.record_key(connection, &outcome, decided_by).await?))
            }
            Some(Decision::NotYet(refusal)) => Step::Rollback(Err(CommandError::NotYet(refusal.into()))),
            None => Step::Rollback(Err(CommandError::NotExecuted(DatabaseError::Deadline))),
        })
    }

    /// True if the request's deadline has passed, perhaps during the wait for locks.
    pub(super) fn is_late(&self) -> bool {
        self.context.context.deadline.has_passed()
    }

    /// Seals the entry of a decided transition, chained to the aggregate's newest entry, and makes the reply.
    pub(super) fn transition<T>(
        &self,
        rule: &C::Rule,
        after: T,
        outcome: &Outcome,
        head: Option<&StoredHead>,
    ) -> Transition<'_, T> {
        let (_, decided) = Decided::by(rule);
        let sealed = self.store.journal.seal(Draft {
            aggregate_id: self.claim.aggregate_id,
            head: self.store.chain(head),
            command: self.claim.command,
            cause: &self.context.cause,
            causation_id: self.context.causation_id,
            decided,
            attempt: self.context.context.attempt,
            evidence: chassis::evidence(&self.context.context.trail, None),
            payload_hash: self.context.payload_hash,
        });
        Transition { after, sealed, claim: &self.claim, reply: self.render(outcome) }
    }

    fn render(&self, outcome: &Outcome) -> StoredReply {
        (self.store.render)(outcome, &self.context.cause.correlation_id)
    }

    /// Continues after the first transaction until there is a result. The first did not find the key first, because most
    /// keys are new: see [`Self::run`].
    pub(super) async fn conclude(&self, first: Result<Ended, DatabaseError>) -> Ended {
        let (mut restarts, mut repeats) = (0, 0);
        let mut lost = None;
        let mut ended = first;
        loop {
            let error = match ended {
                Ok(Ok(result)) => {
                    if let Some((kind, to)) = result.moved {
                        count_entries(kind, to, 1);
                    }
                    return Ok(result);
                }
                Ok(Err(CommandError::NotExecuted(error))) | Err(error) => error,
                Ok(Err(error)) => return Err(error),
            };
            match error {
                DatabaseError::Defect(cause) if is_race(&cause) => {
                    restarts += 1;
                    if restarts > RESTARTS {
                        return Err(match self.command.lost_race(&cause) {
                            Some(refusal) => CommandError::NotYet(refusal.into()),
                            None => CommandError::NotExecuted(DatabaseError::Busy(cause)),
                        });
                    }
                }
                // An error without effect is final, unless a COMMIT was lost before: its outcome is still unknown.
                error if error.is_not_executed() && lost.is_none() => {
                    return Err(match &error {
                        DatabaseError::Defect(cause) if is_of_one_write(cause) => {
                            CommandError::WriteRefused(error)
                        }
                        _ => CommandError::NotExecuted(error),
                    });
                }
                error => {
                    let pause = Duration::from_millis(50 << repeats);
                    repeats += 1;
                    if repeats > LOST_COMMIT_REPEATS || Instant::now() + pause >= self.deadline() {
                        return Err(CommandError::Unknown(lost.unwrap_or(error)));
                    }
                    tracing::warn!(%error, "COMMIT outcome unknown; finding it by its key");
                    lost.get_or_insert(error);
                    tokio::time::sleep(pause).await;
                }
            }
            ended = self.alone(true).await;
        }
    }

    /// The end of the command if its key is known: a replay, a reused key, or a request in flight.
    async fn find_key(&self, connection: &mut PgConnection) -> Result<Option<Ended>, sqlx::Error> {
        let claim = &self.claim;
        let row = journal::idempotency::find(connection, &claim.principal, &claim.key_hash).await?;
        if row.as_ref().is_some_and(|row| row.reply.is_some())
            && let Some(clock) = reservations::clock(connection, claim.aggregate_id).await?
        {
            // Another replica, whose clock is ahead of this one, may have written the entry that the replay names.
            self.store.clocks.adopt_head(clock);
        }
        Ok(row.map(|row| match row.reply {
            _ if row.fingerprint != claim.fingerprint => Err(CommandError::KeyReused),
            Some(stored) => Ok(CommandResult { stored, entry_id: row.entry_id, replayed: true, moved: None }),
            None => Err(CommandError::InFlight),
        }))
    }

    /// Records the key of a command that changed nothing, with its reply. `entry_id` had decided it before.
    async fn record_key(
        &self,
        connection: &mut PgConnection,
        outcome: &Outcome,
        (entry_id, decided_at): (Uuid, Option<HybridTime>),
    ) -> Result<CommandResult, sqlx::Error> {
        // The reply names that entry as its cause, so the clock in the reply has to be after the entry.
        if let Some(time) = decided_at {
            self.store.clocks.adopt_head(time);
        }
        let stored = self.render(outcome);
        journal::idempotency::record(connection, &self.claim, &stored, Some(entry_id)).await?;
        Ok(CommandResult { stored, entry_id: Some(entry_id), replayed: false, moved: None })
    }
}

/// Counts committed entries by the kind of their aggregate and its new state.
pub(super) fn count_entries(kind: &'static str, to: &'static str, count: u64) {
    journal::meters::count_entries_of(kind, to, count);
}
