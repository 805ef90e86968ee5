//! Execution of a command in one transaction: key, locks, decision, rows, entry and reply.
//!
//! When two requests have the same key, the primary key of the idempotency table lets one commit. The other is rolled back,
//! starts again and finds the reply. The same repeat resolves a COMMIT whose answer was lost: it waits until the lost
//! transaction has ended, and then replays its reply or does the work.

use std::sync::Arc;
use std::time::Duration;

use journal::{
    Cause, Claim, DatabaseError, Decided, Draft, Head, HybridTime, Rule, Sealed, State, Step, StoredReply,
};
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Answer, Ask, Failure, Inventory, Refusal, Reply};
use crate::store;
use crate::store::StoredHead;

/// Limit on restarts after a lost race for a row. Each round lets one of the requests commit; so many rounds within one
/// request would need a caller that repeats on purpose.
const RESTARTS: u32 = 4;

/// Number of pauses before a repeat that resolves a lost COMMIT: 50, 100, 200, 400 ms, within the deadline. A database
/// server that restarts needs that long.
const LOST_COMMIT_LOOKS: u32 = 4;

/// The parts that differ between commands.
pub(super) trait Command: Send + Sync + 'static {
    /// Name of the command in the journal.
    const NAME: &'static str;

    /// Id of the aggregate that the command is about.
    fn aggregate_id(&self) -> Uuid;

    /// Locks, decides and writes. This can run several times, each time in a transaction of its own.
    fn carry_out(
        &self,
        context: &CommandContext,
        connection: &mut PgConnection,
    ) -> impl Future<Output = Result<CommandResult, sqlx::Error>> + Send;

    /// The refusal that follows when one of the command's unique constraints still refuses the write after all restarts.
    fn refusal(&self, _race: &sqlx::Error) -> Option<Refusal> {
        None
    }
}

/// Result of a command's transaction.
#[derive(Debug)]
pub(super) enum CommandResult {
    /// Rows, entry and key were written.
    Written(Written),
    /// Only the key has to be written: the entry `entry_id` had decided the answer before, at `decided_at`. The time is
    /// `None` for an item whose row has no readable time.
    Settled { answer: Answer, entry_id: Uuid, decided_at: Option<HybridTime> },
    /// The command is refused now, and may succeed later. Nothing is written.
    Passing(Refusal),
    /// The deadline passed during the wait for locks.
    TooLate,
}

/// The writes of a command, which count if the transaction commits.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) reply: StoredReply,
    pub(super) entry_id: Uuid,
    pub(super) moved: Moved,
}

/// A transition, for the metrics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    pub(super) kind: &'static str,
    pub(super) to: &'static str,
}

impl Moved {
    pub(super) fn to<S: State>(to: S) -> Self {
        Self { kind: S::KIND, to: to.as_str() }
    }

    pub(super) fn count(self) {
        metrics::counter!("mainstay_journal_entries_total", "kind" => self.kind, "to" => self.to)
            .increment(1);
    }
}

/// A command with its context.
#[derive(Debug)]
pub(super) struct CommandRequest<C> {
    pub(super) context: CommandContext,
    pub(super) command: C,
}

/// Context of a command: use cases, request, cause and key.
#[derive(Debug)]
pub(super) struct CommandContext {
    inventory: Inventory,
    ask: Ask,
    cause: Cause,
    /// Claim of the idempotency key, which is recorded with the reply.
    pub(super) claim: Claim,
}

impl CommandContext {
    /// Deadline of the request.
    pub(super) fn deadline(&self) -> Instant {
        self.ask.context.deadline.instant()
    }

    /// True if the request's deadline has passed.
    pub(super) fn is_late(&self) -> bool {
        self.ask.context.deadline.has_passed()
    }

    /// Correlation id of the request.
    pub(super) fn correlation_id(&self) -> Arc<str> {
        Arc::clone(&self.cause.correlation_id)
    }

    /// Makes the reply with its bytes.
    pub(super) fn render(&self, answer: &Answer) -> StoredReply {
        (self.inventory.0.render)(answer, self.ask.context.correlation_id.as_str())
    }

    /// Seals the entry of `decided`, chained to the aggregate's newest entry.
    pub(super) fn seal<R: Rule>(
        &self,
        decided: Decided<'_, R>,
        from: Option<(R::State, &StoredHead)>,
    ) -> Sealed {
        let head = self.inventory.chain(from);
        self.inventory.0.journal.seal(Draft {
            aggregate_id: self.claim.aggregate_id,
            head,
            command: self.claim.command,
            cause: &self.cause,
            causation_id: self.ask.causation_id,
            decided,
            attempt: self.ask.context.attempt,
            evidence: chassis::evidence(&self.ask.context.trail, None),
            payload_hash: self.ask.payload_hash,
        })
    }
}

impl Inventory {
    /// The head that the next entry is chained to. Adopts its time, so that the hybrid clock is after it, also when another
    /// process wrote it.
    pub(super) fn chain<S: State>(&self, from: Option<(S, &StoredHead)>) -> Option<Head> {
        from.map(|(state, head)| {
            self.0.clocks.adopt_head(head.hlc);
            head.head(state)
        })
    }

    /// Executes a command under its key.
    pub(super) async fn execute<C: Command>(&self, ask: Ask, command: C) -> Result<Reply, Failure> {
        let asked = self.asked(ask, command);
        let first = self.round(&asked, false).await;
        self.conclude(&asked, first).await
    }

    pub(super) fn asked<C: Command>(&self, ask: Ask, command: C) -> Arc<CommandRequest<C>> {
        if let Some(clock) = ask.clock {
            self.0.clocks.adopt_peer(clock);
        }
        let claim = Claim {
            principal: Arc::clone(&ask.principal),
            key_hash: ask.key,
            fingerprint: ask.fingerprint,
            command: C::NAME,
            aggregate_id: command.aggregate_id(),
        };
        let cause = ask.cause();
        Arc::new(CommandRequest {
            context: CommandContext { inventory: self.clone(), ask, cause, claim },
            command,
        })
    }

    /// A transaction of the command's own. Commands that wait for a row leave connections to the others.
    async fn round<C: Command>(
        &self,
        asked: &CommandRequest<C>,
        ask_first: bool,
    ) -> Result<Round, DatabaseError> {
        let input = (asked, ask_first);
        self.0
            .database
            .alone(Some(asked.context.deadline()), input, |connection, &(asked, ask_first)| {
                Box::pin(attempt(connection, asked, ask_first))
            })
            .await
    }

    /// Continues after the first round until there is a result. The first round did not look the key up first, because most
    /// keys are new: see [`attempt`].
    pub(super) async fn conclude<C: Command>(
        &self,
        asked: &CommandRequest<C>,
        first: Result<Round, DatabaseError>,
    ) -> Result<Reply, Failure> {
        let deadline = asked.context.deadline();
        let (mut restarts, mut looks) = (0, 0);
        let mut lost = None;
        let mut round = first;
        loop {
            let error = match round {
                Ok(Round { moved, end: Some(result) }) => {
                    if let Some(moved) = moved {
                        moved.count();
                    }
                    return result;
                }
                Ok(Round { end: None, .. }) => DatabaseError::Deadline,
                Err(error) => error,
            };
            match error {
                DatabaseError::Defect(cause) if store::is_race(&cause) => {
                    restarts += 1;
                    if restarts > RESTARTS {
                        return Err(match asked.command.refusal(&cause) {
                            Some(refusal) => Failure::Refused(Box::new(refusal)),
                            None => Failure::NotExecuted(DatabaseError::Busy(cause)),
                        });
                    }
                }
                // An error without effect is final, unless a COMMIT was lost before: its outcome is still unknown.
                error if error.is_not_executed() && lost.is_none() => {
                    return Err(Failure::NotExecuted(error));
                }
                error => {
                    let pause = Duration::from_millis(50 << looks);
                    looks += 1;
                    if looks > LOST_COMMIT_LOOKS || Instant::now() + pause >= deadline {
                        return Err(Failure::Unknown(lost.unwrap_or(error)));
                    }
                    tracing::warn!(%error, "COMMIT outcome unknown; looking its key up");
                    lost.get_or_insert(error);
                    tokio::time::sleep(pause).await;
                }
            }
            round = self.round(asked, true).await;
        }
    }
}

/// Result of one transaction.
#[derive(Debug)]
pub(super) struct Round {
    /// The transition, if one was written and the transaction commits.
    moved: Option<Moved>,
    /// The end of the command; `None` when the deadline passed in the transaction.
    end: Option<Result<Reply, Failure>>,
}

/// Runs a command once, and looks its key up unless the write shows that the key is new: the key is recorded together with
/// the rows, and one key cannot be recorded twice. So the key is looked up first only when it is probably known
/// (`ask_first`). Otherwise it is looked up before any answer that wrote nothing.
pub(super) async fn attempt<C: Command>(
    connection: &mut PgConnection,
    CommandRequest { context, command }: &CommandRequest<C>,
    ask_first: bool,
) -> Result<Step<Round>, sqlx::Error> {
    if ask_first && let Some(known) = known(context, connection).await? {
        return Ok(Step::Rollback(known));
    }
    let ending = command.carry_out(context, connection).await?;
    let is_new = ask_first || matches!(ending, CommandResult::Written(_));
    if !is_new && let Some(known) = known(context, connection).await? {
        return Ok(Step::Rollback(known));
    }
    Ok(match ending {
        CommandResult::Written(written) => Step::Commit(Round::written(written)),
        CommandResult::Settled { answer, entry_id, decided_at } => {
            // The reply names that entry as its cause, so the clock in the reply has to be after the entry.
            if let Some(time) = decided_at {
                context.inventory.0.clocks.adopt_head(time);
            }
            let stored = context.render(&answer);
            store::keys::record(connection, &context.claim, &stored, entry_id).await?;
            Step::Commit(Round::over(Ok(Reply { stored, entry_id: Some(entry_id), replayed: false })))
        }
        CommandResult::Passing(refusal) => {
            Step::Rollback(Round::over(Err(Failure::Refused(Box::new(refusal)))))
        }
        CommandResult::TooLate => Step::Rollback(Round::too_late()),
    })
}

impl Round {
    pub(super) fn written(Written { reply, entry_id, moved }: Written) -> Self {
        let reply = Reply { stored: reply, entry_id: Some(entry_id), replayed: false };
        Self { moved: Some(moved), end: Some(Ok(reply)) }
    }

    /// A round in which the deadline passed.
    pub(super) fn too_late() -> Self {
        Self { moved: None, end: None }
    }

    /// A round that ends the command without a transition.
    fn over(end: Result<Reply, Failure>) -> Self {
        Self { moved: None, end: Some(end) }
    }
}

/// The end of the command if its key is known: a replay, a reused key, or a request in flight.
async fn known(
    context: &CommandContext,
    connection: &mut PgConnection,
) -> Result<Option<Round>, sqlx::Error> {
    let claim = &context.claim;
    let row = journal::idempotency::look(connection, &claim.principal, &claim.key_hash).await?;
    if row.as_ref().is_some_and(|row| row.reply.is_some())
        && let Some(clock) = store::reservations::clock(connection, claim.aggregate_id).await?
    {
        // Another replica, whose clock is ahead of this one, may have written the entry that the replay names.
        context.inventory.0.clocks.adopt_head(clock);
    }
    Ok(row.map(|row| {
        Round::over(match row.reply {
            _ if row.fingerprint != claim.fingerprint => Err(Failure::KeyReused),
            Some(stored) => Ok(Reply { stored, entry_id: row.entry_id, replayed: true }),
            None => Err(Failure::InFlight),
        })
    }))
}
