//! Transactions with a bound on every wait and an honest word on what became of them.
//!
//! Four facts about sqlx 0.9 shape this module. A future dropped inside `begin` can hand an open transaction
//! to the next user of the connection, whose acknowledged write is then lost; so a connection goes back to the
//! pool only from the one place that saw its transaction end, and is closed from everywhere else. Its own pool asks
//! the server, without a bound, whether a connection lives each time one comes back: a fifth of all round trips here;
//! so the pool is deadpool's, which does nothing of its own. A lost connection during COMMIT says nothing about the
//! outcome; so that is an error of its own. And sqlx sets no TCP timeout; so each wait is bounded here, and by the
//! server's own settings.

mod alone;
mod error;
mod session;
mod sqlstate;

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{Pool, PoolError, QueueMode};
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Executor, PgConnection};
use tokio::time::{Instant, timeout_at};

use alone::Room;
pub use error::DatabaseError;
use error::Failure;
pub(crate) use error::{is_cut_off, is_held_up};
use session::{Lease, Opener};

use crate::meters::{self, Ended};

/// Bounds on every wait for the database.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at most. Default 16: twice what keeps two cores and one disk busy. The session of one that
    /// was closed in the middle of a statement ends within 250 ms.
    pub connections: u32,
    /// Longest wait for a free connection, a new one included. Default 1 s: half of a request's default time.
    pub acquire: Duration,
    /// `statement_timeout`. Default 5 s: no statement here takes 100 ms when healthy.
    pub statement: Duration,
    /// `lock_timeout`. Default 250 ms, and so one second with the retries of a conflict: a longer queue on one row is
    /// overload, and is answered as such.
    pub lock: Duration,
    /// Longest a whole transaction may take before its connection is closed; covers a server that no longer
    /// answers at all. Default 8 s.
    pub transaction: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16,
            acquire: Duration::from_secs(1),
            statement: Duration::from_secs(5),
            lock: Duration::from_millis(250),
            transaction: Duration::from_secs(8),
        }
    }
}

/// What a transaction's or a read's work gives.
pub type Work<'c, T> = BoxFuture<'c, Result<T, sqlx::Error>>;

/// How a transaction's work wants it to end.
#[derive(Debug)]
pub enum Step<T> {
    /// Commit, then give this.
    Commit(T),
    /// Roll back, then give this.
    Rollback(T),
}

/// A pool of connections that are used only through bounded transactions and reads.
#[derive(Debug, Clone)]
pub struct Database {
    pool: Pool<Opener>,
    limits: Limits,
    room: Arc<Room>,
}

/// How often a server at work looks whether its client is still there. PostgreSQL can from 14 on, from 15 on where it
/// does not run on Linux.
const CLIENT_CHECK: Duration = Duration::from_millis(250);

/// A conflict is retried this often (serialization, deadlock, lock wait), so a transaction is tried 4 times.
const CONFLICT_RETRIES: u32 = 3;

/// Begins a transaction in which others must not wait for long. No statement here takes 100 ms on a healthy server, so one
/// that takes 250 ms is slow by itself, or the server is; a lock is held for a few milliseconds, so one that does not come
/// free in 50 ms has a holder that hangs or a long queue. The settings cost no round trip of their own.
const HURRIED: &str = "BEGIN; SET LOCAL lock_timeout = 50; SET LOCAL statement_timeout = 250";

impl Database {
    /// Connects lazily: a database that is down shows in readiness, not in a failed start.
    pub fn new(options: PgConnectOptions, limits: Limits) -> Self {
        meters::start_database();
        let millis = |d: Duration| d.as_millis().to_string();
        let options = options.options([
            ("statement_timeout", millis(limits.statement)),
            ("lock_timeout", millis(limits.lock)),
            ("idle_in_transaction_session_timeout", millis(limits.transaction)),
            // A server does not check its client while it works. Without this, the session of a closed connection would
            // work until `statement_timeout`, beside the connection that replaced it.
            ("client_connection_check_interval", millis(CLIENT_CHECK)),
            // Every statement finds its rows by a key, so one plan serves all; left to itself the server plans those
            // with arrays anew each time. A page read by key costs little more than one read in turn, as it does from
            // memory: with the default of 4, made for turning disks, a join of two SKUs reads a table of 1,000 whole.
            ("plan_cache_mode", "force_generic_plan".to_owned()),
            ("random_page_cost", "1.1".to_owned()),
            // Nor is a table to be read whole because it was empty when the plan was made: until the server counts its
            // rows, after a minute, each order would cost more than the one before.
            ("enable_seqscan", "off".to_owned()),
            // What can only be read whole is then thought so dear that it would be compiled first.
            ("jit", "off".to_owned()),
            // The schema is not a matter of the role's settings.
            ("search_path", "public".to_owned()),
        ]);
        let pool = Pool::builder(Opener::new(options))
            .max_size(usize::try_from(limits.connections).unwrap_or(usize::MAX))
            // The one used last is the one that is warm.
            .queue_mode(QueueMode::Lifo)
            .build()
            .expect("only a pool with timeouts of its own needs a runtime to be named");
        let room = Arc::new(Room::of(limits.connections));
        Self { pool, limits, room }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Connections open and idle, for metrics.
    pub fn connections(&self) -> (usize, usize) {
        let status = self.pool.status();
        (status.size, status.available)
    }

    /// How many wait for a connection.
    pub fn waiting(&self) -> usize {
        self.pool.status().waiting
    }

    /// Closes every connection that is idle, and the others once their work has ended. Nothing can begin any more.
    pub fn close(&self) {
        self.pool.close();
    }

    /// Runs `work` in a transaction. Conflicts (40001, 40P01, 55P03) are tried again from the start, so `work`
    /// may run several times and must not act outside the database. All that it needs is in `input`, so that it
    /// is a function and keeps nothing between its runs. `deadline` bounds the wait for a connection; once it has
    /// passed, no work begins and none is committed. Without one, as for the record of an outcome, only the
    /// [`Limits`] hold.
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
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, Step<T>>,
    {
        self.try_transaction(deadline, "BEGIN", CONFLICT_RETRIES, input, work).await
    }

    /// The same, but it waits 50 ms for a lock and 250 ms for a statement at most, and a conflict is not tried
    /// again: for work on several things, of which one must not hold up the others.
    pub async fn hurried<I, T, F>(
        &self,
        deadline: Option<Instant>,
        input: I,
        work: F,
    ) -> Result<T, DatabaseError>
    where
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, Step<T>>,
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
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, Step<T>>,
    {
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

    /// Runs reading statements on one connection, each its own transaction. When the deadline cuts it off, the server
    /// stops working on it within 250 ms.
    pub async fn read<I, T, F>(
        &self,
        deadline: Option<Instant>,
        input: I,
        work: F,
    ) -> Result<T, DatabaseError>
    where
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, T>,
    {
        let mut since = None;
        loop {
            let mut lease = self.lease(deadline, since).await?;
            let failure = match timeout_at(self.bound(deadline), work(lease.connection(), &input)).await {
                Ok(Ok(value)) => {
                    self.pool.manager().heard();
                    lease.give_back();
                    self.retire_before(since);
                    return Ok(value);
                }
                Ok(Err(error)) => Failure::before_commit(error),
                // Nothing was changed, so nothing is unknown; a server that does not answer in time is no defect.
                Err(_) if deadline.is_some_and(|d| d <= Instant::now()) => {
                    Failure::Final(DatabaseError::Deadline)
                }
                Err(_) => Failure::Final(DatabaseError::Unavailable(error::silence().into())),
            };
            if failure.leaves_session_sound() {
                self.pool.manager().heard();
                // A statement on its own leaves nothing open.
                lease.give_back();
            }
            match failure {
                // A read may simply be repeated on a new session.
                Failure::Session(error) | Failure::Lost(error) if since.is_none() => {
                    since = Some(replaced(&error));
                }
                failure => return Err(failure.into_error()),
            }
        }
    }

    /// The state of a database that has carried out none of the last transactions, and at least three were tried in the
    /// last ten seconds; it completes "the database …". A full disk shows here and in no read.
    pub fn failing(&self) -> Option<&'static str> {
        self.pool.manager().failing()
    }

    /// Idle sessions are closed instead of used again. For a caller that has seen a session keep a setting that may
    /// have been taken back since.
    pub fn retire_sessions(&self) {
        self.pool.manager().trust_from(Instant::now());
    }

    /// A new session has succeeded where an older one failed: sessions of the older one's time are not used again.
    fn retire_before(&self, since: Option<Instant>) {
        if let Some(since) = since {
            self.pool.manager().trust_from(since);
        }
    }

    /// One try, on a session that began after `since`, if that is given.
    async fn attempt<I, T, F>(
        &self,
        deadline: Option<Instant>,
        since: Option<Instant>,
        begin: &'static str,
        input: &I,
        work: &F,
    ) -> Result<T, Failure>
    where
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, Step<T>>,
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
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, Step<T>>,
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
        let step = match timeout_at(bound, work(lease.connection(), input)).await {
            Ok(Ok(step)) => step,
            Ok(Err(error)) => {
                let failure = Failure::before_commit(error);
                if failure.leaves_session_sound() {
                    lease.roll_back(bound).await;
                }
                return Err(failure);
            }
            Err(_) => return Err(Failure::Lost(error::silence())),
        };
        match step {
            // The caller has been answered "unknown" already. Roll back, so that the outcome is known.
            Step::Commit(_) if is_late() => {
                lease.roll_back(bound).await;
                Err(Failure::Final(DatabaseError::Deadline))
            }
            Step::Commit(value) => {
                match timeout_at(bound, lease.connection().execute(sqlx::raw_sql("COMMIT"))).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Err(Failure::at_commit(error)),
                    Err(_) => return Err(Failure::Final(DatabaseError::Unknown(error::silence().into()))),
                }
                self.pool.manager().heard();
                lease.give_back();
                Ok(value)
            }
            Step::Rollback(value) => {
                lease.roll_back(bound).await;
                Ok(value)
            }
        }
    }

    async fn lease(&self, deadline: Option<Instant>, since: Option<Instant>) -> Result<Lease, DatabaseError> {
        let began = Instant::now();
        if deadline.is_some_and(|d| d <= began) {
            return Err(DatabaseError::Deadline);
        }
        let bound = began + self.limits.acquire;
        let bound = deadline.map_or(bound, |d| d.min(bound));
        let acquired = timeout_at(bound, async {
            let mut lease = Lease::new(self.pool.get().await?);
            if let Some(since) = since {
                lease.renew(since, self.pool.manager()).await.map_err(PoolError::Backend)?;
            }
            Ok(lease)
        })
        .await;
        meters::acquire().record(began.elapsed().as_secs_f64());
        match acquired {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(PoolError::Backend(error))) => Err(Failure::at_login(error).into_error()),
            Ok(Err(PoolError::Closed)) => Err(DatabaseError::Unavailable(Arc::new(sqlx::Error::PoolClosed))),
            // The pool has no timeouts and no hooks of its own, so this is ours.
            Ok(Err(PoolError::Timeout(_) | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)))
            | Err(_) => Err(self.not_served()),
        }
    }

    /// No connection came free in time: because there is too much to do or, where nothing at all was answered for twice
    /// that time, because the server does not answer.
    pub(crate) fn not_served(&self) -> DatabaseError {
        if self.pool.manager().silence() < 2 * self.limits.acquire {
            DatabaseError::Busy(Arc::new(sqlx::Error::PoolTimedOut))
        } else {
            DatabaseError::Unavailable(error::silence().into())
        }
    }

    fn bound(&self, deadline: Option<Instant>) -> Instant {
        let bound = Instant::now() + self.limits.transaction;
        deadline.map_or(bound, |d| d.min(bound))
    }
}

/// Full jitter over 5, 10, 20 ms: long enough for the winner's commit, short beside any deadline.
fn jitter(conflicts: u32) -> Duration {
    let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    Duration::from_micros(random * (5_000 << conflicts.min(4)) / 512)
}

/// Notes that a session is replaced because of `error`; sessions from then on may do what it could not.
fn replaced(error: &sqlx::Error) -> Instant {
    meters::session_replaced();
    tracing::warn!(%error, "database session closed: it failed as a session; the work is tried on a new one");
    Instant::now()
}
