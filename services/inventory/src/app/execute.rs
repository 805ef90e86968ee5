//! One command, one transaction: key, locks, decision, rows, entry and reply.
//!
//! Of two requests with one key the table's primary key lets one through; the other is rolled back, starts again
//! and finds the reply. The same repeat resolves a COMMIT whose answer was lost: it waits behind the lost
//! transaction if that still runs, and then either replays it or does the work.

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
use crate::store::Newest;

/// Of two or more requests that race for one row, each round lets one through; this many rounds in one
/// transaction's time would need a caller that repeats itself on purpose.
const RESTARTS: u32 = 4;

/// Pauses before a lost COMMIT is looked for: 50, 100, 200, 400 ms, within the deadline. A server that restarts
/// needs that long.
const LOST_COMMIT_LOOKS: u32 = 4;

/// What differs between commands.
pub(super) trait Command: Send + Sync + 'static {
    /// As it stands in the journal.
    const NAME: &'static str;

    /// What it is about.
    fn aggregate_id(&self) -> Uuid;

    /// Locks, decides and writes. May run several times, each in a transaction of its own.
    fn carry_out(
        &self,
        scene: &Scene,
        connection: &mut PgConnection,
    ) -> impl Future<Output = Result<Ending, sqlx::Error>> + Send;

    /// What it means when one of the command's own unique constraints stands in the way for good.
    fn refusal(&self, _race: &sqlx::Error) -> Option<Refusal> {
        None
    }
}

/// How a command ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// Rows, entry and key are written.
    Written(Written),
    /// Nothing is to be written but the key: this entry had decided it, at this time. No time is known of an item whose
    /// row holds none that can be read.
    Settled { answer: Answer, entry_id: Uuid, decided_at: Option<HybridTime> },
    /// Nothing is to be written, and it may be otherwise later.
    Passing(Refusal),
    /// The deadline passed while waiting for locks.
    TooLate,
}

/// What was written, if it commits.
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

/// A command, and what it works with.
#[derive(Debug)]
pub(super) struct Asked<C> {
    pub(super) scene: Scene,
    pub(super) command: C,
}

/// What a command works with.
#[derive(Debug)]
pub(super) struct Scene {
    inventory: Inventory,
    ask: Ask,
    cause: Cause,
    /// The key, to be recorded with the reply.
    pub(super) claim: Claim,
}

impl Scene {
    /// When the caller gives up.
    pub(super) fn deadline(&self) -> Instant {
        self.ask.context.deadline.instant()
    }

    /// Whether the caller has given up.
    pub(super) fn is_late(&self) -> bool {
        self.ask.context.deadline.has_passed()
    }

    /// The request's correlation id.
    pub(super) fn correlation_id(&self) -> Arc<str> {
        Arc::clone(&self.cause.correlation_id)
    }

    /// The reply's bytes.
    pub(super) fn render(&self, answer: &Answer) -> StoredReply {
        (self.inventory.0.render)(answer, self.ask.context.correlation_id.as_str())
    }

    /// Seals the entry of `decided`, chained to the aggregate's newest.
    pub(super) fn seal<R: Rule>(&self, decided: Decided<'_, R>, from: Option<(R::State, &Newest)>) -> Sealed {
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
    /// The head to chain to; our clock moves past it, also when another process wrote it.
    pub(super) fn chain<S: State>(&self, from: Option<(S, &Newest)>) -> Option<Head> {
        from.map(|(state, newest)| {
            self.0.clocks.adopt_head(newest.hlc);
            newest.head(state)
        })
    }

    /// Carries a command out under its key.
    pub(super) async fn execute<C: Command>(&self, ask: Ask, command: C) -> Result<Reply, Failure> {
        let asked = self.asked(ask, command);
        let first = self.round(&asked, false).await;
        self.conclude(&asked, first).await
    }

    pub(super) fn asked<C: Command>(&self, ask: Ask, command: C) -> Arc<Asked<C>> {
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
        Arc::new(Asked { scene: Scene { inventory: self.clone(), ask, cause, claim }, command })
    }

    /// A transaction of the command's own. Commands that wait for a row leave connections to the others.
    async fn round<C: Command>(&self, asked: &Asked<C>, ask_first: bool) -> Result<Round, DatabaseError> {
        let input = (asked, ask_first);
        self.0
            .database
            .alone(Some(asked.scene.deadline()), input, |connection, &(asked, ask_first)| {
                Box::pin(attempt(connection, asked, ask_first))
            })
            .await
    }

    /// Goes on from the first round, in which a new key, being the rule, was not asked for: see [`attempt`].
    pub(super) async fn conclude<C: Command>(
        &self,
        asked: &Asked<C>,
        first: Result<Round, DatabaseError>,
    ) -> Result<Reply, Failure> {
        let deadline = asked.scene.deadline();
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
                // Only what came after a lost COMMIT leaves its fate open.
                error if error.is_not_executed() && lost.is_none() => {
                    return Err(Failure::NotExecuted(error));
                }
                error => {
                    let pause = Duration::from_millis(50 << looks);
                    looks += 1;
                    if looks > LOST_COMMIT_LOOKS || Instant::now() + pause >= deadline {
                        return Err(Failure::Unknown(lost.unwrap_or(error)));
                    }
                    tracing::warn!(%error, "the fate of a commit is unknown; looking for it by its key");
                    lost.get_or_insert(error);
                    tokio::time::sleep(pause).await;
                }
            }
            round = self.round(asked, true).await;
        }
    }
}

/// What one transaction came to.
#[derive(Debug)]
pub(super) struct Round {
    /// What was written, if it commits.
    moved: Option<Moved>,
    /// `None`: the deadline passed on the way.
    end: Option<Result<Reply, Failure>>,
}

/// Looks the key up, unless the work itself shows that it is new: it is recorded together with what is written, and two
/// of one key cannot both be. So it is looked up first only where it may well be known (`ask_first`), and otherwise
/// before anything but a write is answered.
pub(super) async fn attempt<C: Command>(
    connection: &mut PgConnection,
    Asked { scene, command }: &Asked<C>,
    ask_first: bool,
) -> Result<Step<Round>, sqlx::Error> {
    if ask_first && let Some(known) = known(scene, connection).await? {
        return Ok(Step::Rollback(known));
    }
    let ending = command.carry_out(scene, connection).await?;
    let is_new = ask_first || matches!(ending, Ending::Written(_));
    if !is_new && let Some(known) = known(scene, connection).await? {
        return Ok(Step::Rollback(known));
    }
    Ok(match ending {
        Ending::Written(written) => Step::Commit(Round::written(written)),
        Ending::Settled { answer, entry_id, decided_at } => {
            // The reply names that entry as its cause, so the clock that goes with the reply is to be after it.
            if let Some(time) = decided_at {
                scene.inventory.0.clocks.adopt_head(time);
            }
            let stored = scene.render(&answer);
            store::keys::record(connection, &scene.claim, &stored, entry_id).await?;
            Step::Commit(Round::over(Ok(Reply { stored, entry_id: Some(entry_id), replayed: false })))
        }
        Ending::Passing(refusal) => Step::Rollback(Round::over(Err(Failure::Refused(Box::new(refusal))))),
        Ending::TooLate => Step::Rollback(Round::too_late()),
    })
}

impl Round {
    pub(super) fn written(Written { reply, entry_id, moved }: Written) -> Self {
        let reply = Reply { stored: reply, entry_id: Some(entry_id), replayed: false };
        Self { moved: Some(moved), end: Some(Ok(reply)) }
    }

    /// The deadline passed on the way.
    pub(super) fn too_late() -> Self {
        Self { moved: None, end: None }
    }

    /// It ends here, and nothing moved.
    fn over(end: Result<Reply, Failure>) -> Self {
        Self { moved: None, end: Some(end) }
    }
}

/// What the key stands for, if it is known.
async fn known(scene: &Scene, connection: &mut PgConnection) -> Result<Option<Round>, sqlx::Error> {
    let claim = &scene.claim;
    let row = journal::idempotency::look(connection, &claim.principal, &claim.key_hash).await?;
    if row.as_ref().is_some_and(|row| row.reply.is_some())
        && let Some(clock) = store::reservations::clock(connection, claim.aggregate_id).await?
    {
        // Another replica may have written the entry that the replay names, by a clock that is ahead of ours.
        scene.inventory.0.clocks.adopt_head(clock);
    }
    Ok(row.map(|row| {
        Round::over(match row.reply {
            _ if row.fingerprint != claim.fingerprint => Err(Failure::KeyReused),
            Some(stored) => Ok(Reply { stored, entry_id: row.entry_id, replayed: true }),
            None => Err(Failure::InFlight),
        })
    }))
}
