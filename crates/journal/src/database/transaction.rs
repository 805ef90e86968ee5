//! Transactions: their attempts, retries and ends.

use std::time::Duration;

use sqlx::{Executor, PgConnection};
use tokio::time::{Instant, timeout_at};

use super::error::{self, Failure};
use super::session::Lease;
use super::{Database, DatabaseError, Timer, TxEnd, Work, replaced};
use crate::meters::{self, Ended};

/// A conflict (serialization, deadlock, lock wait) is retried this often, so a transaction is tried 4 times.
const CONFLICT_RETRIES: u32 = 3;

/// Begins a transaction in which others must not wait for long. No statement here takes 100 ms on a healthy server, so a
/// statement that takes 250 ms is slow by itself, or the server is. A lock is held for a few milliseconds, so a lock that is
/// not free after 50 ms has a holder that hangs or a long queue. The settings cost no round trip of their own.
const HURRIED: &str = "BEGIN; SET LOCAL lock_timeout = 50; SET LOCAL statement_timeout = 250";

impl Database {
    /// Runs `work` in a transaction. Conflicts (40001, 40P01, 55P03) are tried again from the start, so `work`
    /// may run several times and must not act outside the database. All that it needs is in `input`, so that it
    /// is a function and keeps nothing between its runs. `deadline` bounds the wait for a connection; after the deadline
    /// no work begins and no work is committed. Without a deadline, as for the record of an outcome, only the
    /// [`Limits`](super::Limits) hold.
    ///
    /// # Cancellation
    /// Dropping the future before COMMIT undoes everything; dropping it during COMMIT leaves the outcome
    /// unknown. Use cases therefore run in tasks that no caller can cancel.
    pub async fn transaction<I, T, F>(
        &self,
        deadline: Option<Instant>,
        input: I,
        work: F,
    ) -> Result<T, DatabaseError>
    where
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, TxEnd<T>>,
    {
        self.try_transaction(deadline, "BEGIN", CONFLICT_RETRIES, input, work).await
    }

    /// Runs `work` as [`Database::transaction`] does, but waits 50 ms for a lock and 250 ms for a statement at most, and does
    /// not retry a conflict. For work on several rows, of which one must not hold up the others.
    pub async fn hurried<I, T, F>(
        &self,
        deadline: Option<Instant>,
        input: I,
        work: F,
    ) -> Result<T, DatabaseError>
    where
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, TxEnd<T>>,
    {
        let done = self.try_transaction(deadline, HURRIED, 0, input, work).await;
        if let Err(DatabaseError::Busy(error)) = &done
            && error::is_conflict(error)
        {
            meters::conflict();
        }
        done
    }

    async fn try_transaction<I, T, F>(
        &self,
        deadline: Option<Instant>,
        begin: &'static str,
        conflict_retries: u32,
        input: I,
        work: F,
    ) -> Result<T, DatabaseError>
    where
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, TxEnd<T>>,
    {
        let _spent = Timer::total();
        let mut conflicts = 0;
        let mut since = None;
        loop {
            let failure = match self.attempt(deadline, since, begin, &input, &work).await {
                Ok(done) => {
                    self.retire_before(since);
                    self.pool.manager().ended(None);
                    Ended::Ok.count();
                    return Ok(done);
                }
                Err(failure) => failure,
            };
            match failure {
                Failure::Session(error) if since.is_none() => since = Some(replaced(&error)),
                Failure::Conflict(_) if conflicts < conflict_retries => {
                    conflicts += 1;
                    meters::conflict();
                    tokio::time::sleep(jitter(conflicts)).await;
                }
                failure => {
                    let error = failure.into_error();
                    if let Some(condition) = error.condition() {
                        self.pool.manager().ended(Some(condition));
                    }
                    let ended = if error.is_not_executed() { Ended::NotExecuted } else { Ended::Unknown };
                    ended.count();
                    return Err(error);
                }
            }
        }
    }

    /// One attempt, on a session that began after `since`, if that is given.
    async fn attempt<I, T, F>(
        &self,
        deadline: Option<Instant>,
        since: Option<Instant>,
        begin: &'static str,
        input: &I,
        work: &F,
    ) -> Result<T, Failure>
    where
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, TxEnd<T>>,
    {
        let began = Instant::now();
        let mut lease = self.lease(deadline, since).await.map_err(Failure::Final)?;
        let is_new = lease.opened() >= began;
        let done = self.on(&mut lease, deadline, begin, input, work).await;
        match done {
            // There is no newer session to try.
            Err(Failure::Session(error)) if is_new => Err(Failure::Other(error)),
            done => done,
        }
    }

    async fn on<I, T, F>(
        &self,
        lease: &mut Lease,
        deadline: Option<Instant>,
        begin: &'static str,
        input: &I,
        work: &F,
    ) -> Result<T, Failure>
    where
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, TxEnd<T>>,
    {
        let bound = Instant::now() + self.limits.transaction;
        let is_late = || deadline.is_some_and(|d| d <= Instant::now());

        match timeout_at(bound, lease.connection().execute(sqlx::raw_sql(begin))).await {
            Ok(Ok(_)) => self.pool.manager().heard(),
            Ok(Err(error)) => return Err(Failure::Session(error)),
            Err(_) => return Err(Failure::Lost(error::silence())),
        }
        if is_late() {
            lease.roll_back(bound).await;
            return Err(Failure::Final(DatabaseError::Deadline));
        }
        let end = match timeout_at(bound, work(lease.connection(), input)).await {
            Ok(Ok(end)) => end,
            Ok(Err(error)) => {
                let failure = Failure::before_commit(error);
                if failure.leaves_session_sound() {
                    lease.roll_back(bound).await;
                }
                return Err(failure);
            }
            Err(_) => return Err(Failure::Lost(error::silence())),
        };
        match end {
            // The caller has been answered "unknown" already. Roll back, so that the outcome is known.
            TxEnd::Commit(_) if is_late() => {
                lease.roll_back(bound).await;
                Err(Failure::Final(DatabaseError::Deadline))
            }
            TxEnd::Commit(value) => {
                match timeout_at(bound, lease.connection().execute(sqlx::raw_sql("COMMIT"))).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Err(Failure::at_commit(error)),
                    Err(_) => return Err(Failure::Final(DatabaseError::Unknown(error::silence().into()))),
                }
                self.pool.manager().heard();
                lease.give_back();
                Ok(value)
            }
            TxEnd::Rollback(value) => {
                lease.roll_back(bound).await;
                Ok(value)
            }
        }
    }
}

/// Full jitter over 5, 10, 20 ms: long enough for the commit of the other transaction, short beside any deadline.
fn jitter(conflicts: u32) -> Duration {
    let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    Duration::from_micros(random * (5_000 << conflicts.min(4)) / 512)
}
