//! Sessions of the pool: how they are opened, and which may be used again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor, PgConnection};
use tokio::time::{Instant, timeout_at};

/// Age from which a session is closed instead of used again. The server's memory for a session grows, and after a failover a new
/// connection finds the new primary.
const AGE: Duration = Duration::from_mins(30);

/// A connection with the time at which its session began. The session has the settings of that time.
#[derive(Debug)]
pub(super) struct Session {
    connection: PgConnection,
    /// Time just before the connection was opened.
    opened: Instant,
}

/// Manager of the pool's sessions.
#[derive(Debug)]
pub(super) struct Opener {
    options: PgConnectOptions,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Time before which a session must not have begun to be used again.
    trusted_from: Option<Instant>,
    /// Time of the server's last answer, at first the time at which the pool was made.
    heard: Instant,
    /// Transactions that the database failed since the last success: their number, and time and condition of the last.
    failed: Option<(u32, Instant, &'static str)>,
}

/// Number of failed transactions in a row from which the database counts as failing. A single one may have failed by its own
/// fault.
const FAILS_AFTER: u32 = 3;

/// Time after the last failed transaction in which the database counts as failing.
const FAILS_FOR: Duration = Duration::from_secs(10);

impl Opener {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, known: Mutex::new(Known { trusted_from: None, heard: Instant::now(), failed: None }) }
    }

    /// Makes the pool close sessions that began before `from` instead of using them again.
    pub(super) fn trust_from(&self, from: Instant) {
        let trusted_from = &mut self.known().trusted_from;
        *trusted_from = (*trusted_from).max(Some(from));
    }

    /// Records that the server has answered.
    pub(super) fn heard(&self) {
        self.known().heard = Instant::now();
    }

    /// Time since the server's last answer.
    pub(super) fn silence(&self) -> Duration {
        self.known().heard.elapsed()
    }

    /// Records the end of a transaction; `condition` is the database's if it failed the transaction.
    pub(super) fn ended(&self, condition: Option<&'static str>) {
        let failed = &mut self.known().failed;
        let before = failed.map_or(0, |(count, ..)| count);
        *failed = condition.map(|condition| (before.saturating_add(1), Instant::now(), condition));
    }

    /// Condition of a database that fails every transaction.
    pub(super) fn failing(&self) -> Option<&'static str> {
        let (count, last, condition) = self.known().failed?;
        (count >= FAILS_AFTER && last.elapsed() < FAILS_FOR).then_some(condition)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self) -> Result<Session, sqlx::Error> {
        let opened = Instant::now();
        // Boxed, because the future is large and rare, and every transaction's future would have room for it.
        let connection = Box::pin(self.options.connect()).await;
        if matches!(connection, Ok(_) | Err(sqlx::Error::Database(_))) {
            self.heard();
        }
        Ok(Session { connection: connection?, opened })
    }
}

impl managed::Manager for Opener {
    type Type = Session;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Session, sqlx::Error> {
        self.open().await
    }

    /// A query before each use would cost a round trip. A dead session fails at BEGIN instead, before any work, and is
    /// replaced.
    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<sqlx::Error> {
        let is_trusted = self.known().trusted_from.is_none_or(|from| session.opened >= from);
        if is_trusted && session.opened.elapsed() < AGE {
            Ok(())
        } else {
            Err(RecycleError::message("the session began too long ago"))
        }
    }
}

/// A session that is closed unless it is given back.
pub(super) struct Lease(Option<Object<Opener>>);

impl Lease {
    pub(super) fn new(session: Object<Opener>) -> Self {
        Self(Some(session))
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.session().connection
    }

    /// Time at which the session began.
    pub(super) fn opened(&mut self) -> Instant {
        self.session().opened
    }

    /// Replaces the session by a new one, unless it began after `since`.
    pub(super) async fn renew(&mut self, since: Instant, opener: &Opener) -> Result<(), sqlx::Error> {
        if self.opened() < since {
            *self.session() = opener.open().await?;
        }
        Ok(())
    }

    /// Rolls back and gives the session back, if the server answers in time.
    pub(super) async fn roll_back(&mut self, bound: Instant) {
        let rolled_back = timeout_at(bound, self.connection().execute(sqlx::raw_sql("ROLLBACK"))).await;
        if matches!(rolled_back, Ok(Ok(_))) {
            self.give_back();
        }
    }

    /// Gives the session back to the pool.
    pub(super) fn give_back(&mut self) {
        self.0 = None;
    }

    fn session(&mut self) -> &mut Session {
        self.0.as_mut().expect("only give_back and drop take the session, and no use follows them")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            // Take the session out of the pool, so that dropping it closes the connection with its transaction.
            drop(Object::take(session));
        }
    }
}
