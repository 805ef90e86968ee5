//! Sessions of the pool, and the moment from which on their beginnings are trusted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor, PgConnection};
use tokio::time::{Instant, timeout_at};

/// A session older than this is closed rather than used again: what a server keeps for a session grows, and a
/// new primary behind the same name is found.
const AGE: Duration = Duration::from_mins(30);

/// A connection, and when its session began: its settings are of that moment.
#[derive(Debug)]
pub(super) struct Session {
    connection: PgConnection,
    /// Before the connection was opened.
    opened: Instant,
}

/// Opens the pool's sessions, and says which may be used again.
#[derive(Debug)]
pub(super) struct Opener {
    options: PgConnectOptions,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Sessions that began earlier are not used again.
    trusted_from: Option<Instant>,
    /// When the server last answered anything, or when the pool was made.
    heard: Instant,
    /// Since the last transaction that succeeded: how many the database could not carry out, and the last of them.
    failed: Option<(u32, Instant, &'static str)>,
}

/// Transactions in a row that the database could not carry out, before it is said to fail: one may have been its own
/// fault.
const FAILS_AFTER: u32 = 3;

/// For so long after the last of them.
const FAILS_FOR: Duration = Duration::from_secs(10);

impl Opener {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, known: Mutex::new(Known { trusted_from: None, heard: Instant::now(), failed: None }) }
    }

    /// Sessions that began before `from` are closed instead of used again.
    pub(super) fn trust_from(&self, from: Instant) {
        let trusted_from = &mut self.known().trusted_from;
        *trusted_from = (*trusted_from).max(Some(from));
    }

    /// Notes that the server has answered.
    pub(super) fn heard(&self) {
        self.known().heard = Instant::now();
    }

    /// How long the server has answered nothing.
    pub(super) fn silence(&self) -> Duration {
        self.known().heard.elapsed()
    }

    /// Notes whether the database could carry a transaction out, and if not, its condition.
    pub(super) fn ended(&self, condition: Option<&'static str>) {
        let failed = &mut self.known().failed;
        let before = failed.map_or(0, |(count, ..)| count);
        *failed = condition.map(|condition| (before.saturating_add(1), Instant::now(), condition));
    }

    /// The condition in which the database fails every transaction, if it does.
    pub(super) fn failing(&self) -> Option<&'static str> {
        let (count, last, condition) = self.known().failed?;
        (count >= FAILS_AFTER && last.elapsed() < FAILS_FOR).then_some(condition)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self) -> Result<Session, sqlx::Error> {
        let opened = Instant::now();
        // Large and rare: boxed, so that every transaction's future need not have room for it.
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

    /// A question to the server before each use would cost a round trip; a dead session shows at BEGIN instead, where
    /// nothing has been done yet, and is replaced.
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

    /// When its session began.
    pub(super) fn opened(&mut self) -> Instant {
        self.session().opened
    }

    /// Puts a new session in the place of this one, which is closed, unless it began after `since`.
    pub(super) async fn renew(&mut self, since: Instant, opener: &Opener) -> Result<(), sqlx::Error> {
        if self.opened() < since {
            *self.session() = opener.open().await?;
        }
        Ok(())
    }

    /// Ends the transaction, and with it the lease: back to the pool if the server says so in time.
    pub(super) async fn roll_back(&mut self, bound: Instant) {
        let rolled_back = timeout_at(bound, self.connection().execute(sqlx::raw_sql("ROLLBACK"))).await;
        if matches!(rolled_back, Ok(Ok(_))) {
            self.give_back();
        }
    }

    /// Back to the pool.
    pub(super) fn give_back(&mut self) {
        self.0 = None;
    }

    fn session(&mut self) -> &mut Session {
        self.0.as_mut().expect("taken only by give_back, which consumes the lease's use, and by drop")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            // Out of the pool, then closed: whatever state it is in dies with it.
            drop(Object::take(session));
        }
    }
}
