//! Transactions and reads with a bound on every wait, and errors that say whether something was done.
//!
//! Four facts about sqlx 0.9 shape this module:
//!
//! * A future that is dropped inside `begin` can hand an open transaction to the next user of the connection, whose
//!   acknowledged write is then lost. So a connection goes back to the pool only where its transaction was seen to end, and is
//!   closed everywhere else.
//! * Its pool asks the server, without a bound, whether a connection lives each time one comes back: a fifth of all round trips.
//!   So the pool is deadpool's, which asks nothing.
//! * A connection that is lost during COMMIT leaves the outcome unknown. So that is an error of its own.
//! * It sets no TCP timeout. So each wait is bounded here and by the server's settings.

mod alone;
mod error;
mod session;
mod spent;
mod sqlstate;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{Pool, PoolError, QueueMode};
use futures_util::future::BoxFuture;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, timeout_at};

use alone::Room;
pub use error::DatabaseError;
use error::Failure;
pub(crate) use error::{is_cut_off, is_held_up};
use session::{Lease, Opener};
pub use spent::Spent;
pub(crate) use spent::Timer;

use crate::meters;

/// Bounds on every wait for the database.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most connections. Default 16: twice as many as keep two cores and one disk busy. The session of a connection that
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

/// Future of the work of a transaction or a read.
pub type Work<'c, T> = BoxFuture<'c, Result<T, sqlx::Error>>;

/// End of a transaction, as its work decides it.
#[derive(Debug)]
pub enum TxEnd<T> {
    /// Commits, and gives this result.
    Commit(T),
    /// Rolls back, and gives this result.
    Rollback(T),
}

/// A pool of connections that are used only through bounded transactions and reads.
#[derive(Debug, Clone)]
pub struct Database {
    pool: Pool<Opener>,
    limits: Limits,
    room: Arc<Room>,
}

/// Interval at which a working server checks that its client is still connected. PostgreSQL supports it from version 14 on,
/// on systems other than Linux from 15 on.
const CLIENT_CHECK: Duration = Duration::from_millis(250);

/// Settings of [`Database::keyed`].
const KEYED: [(&str, &str); 5] = [
    // One plan serves all values. By default the server plans statements with arrays anew each time.
    ("plan_cache_mode", "force_generic_plan"),
    // From memory a page read by key costs little more than the next page. With the default of 4, made for turning disks, a
    // join of two SKUs reads a table of 1,000 rows whole.
    ("random_page_cost", "1.1"),
    // A plan that was made while a table was empty reads the table whole. Until the server counts its rows, after a minute, each
    // order would cost more than the one before.
    ("enable_seqscan", "off"),
    // The server compiles plans that it thinks expensive, and without sequential scans some plans seem so.
    ("jit", "off"),
    // Settings of the role must not hide the tables.
    ("search_path", "public"),
];

impl Database {
    /// Creates a pool without a connection. A database that is down shows in readiness and not in a failed start.
    pub fn new(options: PgConnectOptions, limits: Limits) -> Self {
        meters::start_database();
        let millis = |d: Duration| d.as_millis().to_string();
        let options = options.options([
            ("statement_timeout", millis(limits.statement)),
            ("lock_timeout", millis(limits.lock)),
            ("idle_in_transaction_session_timeout", millis(limits.transaction)),
            // By default a server does not check its client while it works. The session of a closed connection would work
            // until `statement_timeout`, beside the connection that replaced it.
            ("client_connection_check_interval", millis(CLIENT_CHECK)),
        ]);
        let pool = Pool::builder(Opener::new(options))
            .max_size(usize::try_from(limits.connections).unwrap_or(usize::MAX))
            // The connection that was used last has its data in the processor's caches.
            .queue_mode(QueueMode::Lifo)
            .build()
            .expect("a pool without timeouts of its own needs no runtime");
        let room = Arc::new(Room::of(limits.connections));
        Self { pool, limits, room }
    }

    /// Creates a pool for a service whose statements all find their rows by a key, in the schema `public`. The sessions have
    /// the planner's settings for that; a service with reports or full scans takes [`Database::new`].
    pub fn keyed(options: PgConnectOptions, limits: Limits) -> Self {
        Self::new(options.options(KEYED), limits)
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Numbers of open and of idle connections.
    pub fn connections(&self) -> (usize, usize) {
        let status = self.pool.status();
        (status.size, status.available)
    }

    /// Number of callers that wait for a connection.
    pub fn waiting(&self) -> usize {
        self.pool.status().waiting
    }

    /// Closes idle connections now and the others when their work has ended. No further work begins.
    pub fn close(&self) {
        self.pool.close();
    }

    /// Runs statements that may be repeated on one connection, each as its own transaction. After the deadline the server
    /// stops working on them within 250 ms.
    pub async fn read<I, T, F>(
        &self,
        deadline: Option<Instant>,
        input: I,
        work: F,
    ) -> Result<T, DatabaseError>
    where
        F: for<'c> Fn(&'c mut PgConnection, &'c I) -> Work<'c, T>,
    {
        let _spent = Timer::total();
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
                // A read changes nothing, so its outcome is not unknown. A server that does not answer in time is unavailable.
                Err(_) if deadline.is_some_and(|d| d <= Instant::now()) => {
                    Failure::Final(DatabaseError::Deadline)
                }
                Err(_) => Failure::Final(DatabaseError::Unavailable(error::silence().into())),
            };
            if failure.leaves_session_sound() {
                self.pool.manager().heard();
                // A statement outside of a transaction leaves no transaction open.
                lease.give_back();
            }
            match failure {
                // A read may be repeated on a new session.
                Failure::Session(error) | Failure::Lost(error) if since.is_none() => {
                    since = Some(replaced(&error));
                }
                failure => return Err(failure.into_error()),
            }
        }
    }

    /// State of a database that failed at least the last three transactions, the last of them within ten seconds. The text
    /// completes "the database …". A full disk shows here and in no read.
    pub fn failing(&self) -> Option<&'static str> {
        self.pool.manager().failing()
    }

    /// Closes idle sessions instead of using them again. For a caller that has seen a session with a setting that may have
    /// been reset since.
    pub fn retire_sessions(&self) {
        self.pool.manager().trust_from(Instant::now());
    }

    /// Retires all sessions that began before `since`: a new session has succeeded where an older one failed.
    fn retire_before(&self, since: Option<Instant>) {
        if let Some(since) = since {
            self.pool.manager().trust_from(since);
        }
    }

    async fn lease(&self, deadline: Option<Instant>, since: Option<Instant>) -> Result<Lease, DatabaseError> {
        let _spent = Timer::pool();
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
            // The pool has no timeouts and no hooks of its own, so the timeout is that of this function.
            Ok(Err(PoolError::Timeout(_) | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)))
            | Err(_) => Err(self.not_served()),
        }
    }

    /// The error when no connection came free in time. If the server has answered nothing for twice that time, it is
    /// unavailable; otherwise it is busy.
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

/// Records that a session is replaced because of `error`, and returns the time from which sessions may succeed.
fn replaced(error: &sqlx::Error) -> Instant {
    meters::session_replaced();
    tracing::warn!(%error, "database session closed: it failed as a session; the work is tried on a new one");
    Instant::now()
}
