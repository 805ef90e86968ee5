//! Errors of transactions: whether something was done, and why not.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::sync::Arc;

use super::sqlstate::{self, Reach, SessionState};

/// Reason why a transaction did not succeed, and whether it may have been committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// The deadline passed before COMMIT was sent, or before a read had its result. Nothing was done.
    #[error("the deadline passed before the database had answered")]
    Deadline,
    /// No connection or lock came free in time, or the retries of a conflict ran out. Nothing was done.
    #[error("the database is busy: {0}")]
    Busy(#[source] Arc<sqlx::Error>),
    /// The database cannot be reached, refuses this service, does not answer or cannot write. Nothing was done.
    /// [`DatabaseError::condition`] tells these apart.
    #[error("the database is unavailable: {0}")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The server refused a statement: a defect of the service or of the schema. Nothing was done.
    #[error("the database refused: {0}")]
    Defect(#[source] Arc<sqlx::Error>),
    /// COMMIT was sent and its answer never came. It may have happened: read it back.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(#[source] Arc<sqlx::Error>),
}

impl DatabaseError {
    /// Returns whether it is certain that nothing was done.
    pub fn is_not_executed(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    /// State of a database that is unavailable, for people. The text completes "the database …" and has no address, name
    /// or password.
    pub fn condition(&self) -> Option<&'static str> {
        match self {
            Self::Unavailable(error) => Some(condition(error)),
            Self::Deadline | Self::Busy(_) | Self::Defect(_) | Self::Unknown(_) => None,
        }
    }
}

fn condition(error: &sqlx::Error) -> &'static str {
    match (code(error).as_deref().map(sqlstate::at_login), error) {
        (Some(Reach::Server(condition)), _) => condition,
        (_, sqlx::Error::Io(error)) if error.kind() == ErrorKind::TimedOut => "does not answer",
        _ => "cannot be reached",
    }
}

/// The error for a server that has not answered in time.
pub(super) fn silence() -> sqlx::Error {
    sqlx::Error::Io(ErrorKind::TimedOut.into())
}

/// Failure of one attempt.
pub(super) enum Failure {
    /// The session has ended or is unfit, and nothing was done. A new session may succeed.
    Session(sqlx::Error),
    /// The connection was lost before COMMIT was sent, perhaps because of this work.
    Lost(sqlx::Error),
    /// Another transaction was in the way.
    Conflict(sqlx::Error),
    /// The server refused the work.
    Other(sqlx::Error),
    /// An error that is not retried.
    Final(DatabaseError),
}

impl Failure {
    /// Failure of a statement before COMMIT.
    pub(super) fn before_commit(error: sqlx::Error) -> Self {
        if is_connection_lost(&error) {
            return Self::Lost(error);
        }
        match code(&error).as_deref().map(sqlstate::meaning) {
            Some((SessionState::Unfit | SessionState::Ended, _)) => Self::Session(error),
            Some((SessionState::Sound, Reach::Conflict)) => Self::Conflict(error),
            Some((SessionState::Sound, Reach::Busy | Reach::Server(_) | Reach::Work)) | None => {
                Self::Other(error)
            }
        }
    }

    /// Failure of COMMIT.
    pub(super) fn at_commit(error: sqlx::Error) -> Self {
        let state = code(&error).as_deref().map(|code| sqlstate::meaning(code).0);
        if is_connection_lost(&error) || state == Some(SessionState::Ended) {
            return Self::Final(DatabaseError::Unknown(error.into()));
        }
        // The server answered COMMIT with an error: a deferred check or a conflict, rolled back.
        Self::before_commit(error)
    }

    /// Failure to open a session.
    pub(super) fn at_login(error: sqlx::Error) -> Self {
        let reach = code(&error).as_deref().map(sqlstate::at_login);
        Self::Final(match reach {
            Some(Reach::Busy | Reach::Conflict) => DatabaseError::Busy(error.into()),
            Some(Reach::Server(_) | Reach::Work) | None => DatabaseError::Unavailable(error.into()),
        })
    }

    /// Returns whether the session may go back to the pool: the server has answered every statement.
    pub(super) fn leaves_session_sound(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Other(_))
    }

    /// The error for the caller.
    pub(super) fn into_error(self) -> DatabaseError {
        match self {
            Self::Lost(error) => DatabaseError::Unavailable(error.into()),
            Self::Session(error) | Self::Conflict(error) | Self::Other(error) => judge(error),
            Self::Final(error) => error,
        }
    }
}

fn judge(error: sqlx::Error) -> DatabaseError {
    if is_connection_lost(&error) {
        return DatabaseError::Unavailable(error.into());
    }
    match code(&error).as_deref().map(|code| sqlstate::meaning(code).1) {
        Some(Reach::Conflict | Reach::Busy) => DatabaseError::Busy(error.into()),
        Some(Reach::Server(_)) => DatabaseError::Unavailable(error.into()),
        Some(Reach::Work) | None => DatabaseError::Defect(error.into()),
    }
}

fn is_connection_lost(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_))
}

fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code)
}

/// Returns whether another transaction was in the way: serialization, a deadlock, a lock that did not come free.
pub(crate) fn is_conflict(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| sqlstate::meaning(&code).1 == Reach::Conflict)
}

/// Returns whether the work may succeed with more time: it waited for a lock, or a statement was slow.
pub(crate) fn is_held_up(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Busy(error) => is_conflict(error) || is_cut_off(error),
        DatabaseError::Deadline
        | DatabaseError::Unavailable(_)
        | DatabaseError::Defect(_)
        | DatabaseError::Unknown(_) => false,
    }
}

/// Returns whether a statement took longer than `statement_timeout`.
pub(crate) fn is_cut_off(error: &sqlx::Error) -> bool {
    code(error).as_deref() == Some("57014")
}
