//! From what PostgreSQL and the connection to it say to what became of a transaction.

use std::sync::Arc;

use super::Lease;

/// What became of a transaction that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// The deadline passed before COMMIT was sent, or before what was only to be read was there. Nothing was done.
    #[error("the deadline passed before the database had answered")]
    Deadline,
    /// No connection or lock came free in time, or the retries of a conflict ran out. Nothing was done.
    #[error("the database is busy: {0}")]
    Busy(#[source] Arc<sqlx::Error>),
    /// The database cannot be reached or cannot write. Nothing was done.
    #[error("the database is unavailable: {0}")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// A defect of ours or of the schema. Nothing was done.
    #[error("the database refused: {0}")]
    Defect(#[source] Arc<sqlx::Error>),
    /// COMMIT was sent and its answer never came. It may have happened: read it back.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(#[source] Arc<sqlx::Error>),
}

impl DatabaseError {
    /// Whether certainly nothing was done.
    pub fn is_not_executed(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

/// How a try at a transaction ended that did not succeed.
pub(super) enum Failure {
    /// BEGIN itself failed: the connection was dead before anything was done.
    Stale(sqlx::Error),
    /// The connection was lost before COMMIT was sent.
    Lost(sqlx::Error),
    /// Another transaction was in the way.
    Conflict(sqlx::Error),
    /// The server said no.
    Other(sqlx::Error),
    /// Already judged.
    Final(DatabaseError),
}

impl Failure {
    pub(super) fn classify(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
        match (&error, code.as_deref()) {
            _ if is_conflict(&error) => Self::Conflict(error),
            (_, Some(code)) if is_connection_code(code) => Self::Lost(error),
            (sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_), _) => Self::Lost(error),
            (sqlx::Error::PoolTimedOut, _) => Self::Conflict(error),
            _ => Self::Other(error),
        }
    }

    pub(super) fn before_commit(error: sqlx::Error, lease: &mut Lease) -> Self {
        let failure = Self::classify(error);
        if matches!(failure, Self::Other(_) | Self::Conflict(_)) {
            // The server answered, so the connection is in step; a statement on its own leaves nothing open.
            lease.give_back();
        }
        failure
    }

    pub(super) fn at_commit(error: sqlx::Error) -> Self {
        match Self::classify(error) {
            Self::Lost(error) => Self::Final(DatabaseError::Unknown(error.into())),
            // The server answered COMMIT with an error: a deferred check or a conflict, rolled back.
            failure => failure,
        }
    }

    pub(super) fn into_error(self) -> DatabaseError {
        match self {
            Self::Stale(e) | Self::Lost(e) => DatabaseError::Unavailable(e.into()),
            Self::Conflict(e) => DatabaseError::Busy(e.into()),
            Self::Other(e) => {
                let code = e.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
                match code.as_deref() {
                    // Too many connections; a statement cut off by its timeout.
                    Some("53300" | "57014") => DatabaseError::Busy(e.into()),
                    // Disk full, out of memory, read-only.
                    Some(code) if code.starts_with("53") || code == "25006" => {
                        DatabaseError::Unavailable(e.into())
                    }
                    _ => DatabaseError::Defect(e.into()),
                }
            }
            Self::Final(error) => error,
        }
    }
}

/// Another transaction was in the way: serialization, a deadlock, a lock that did not come free.
pub(crate) fn is_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("40001" | "40P01" | "55P03"))
}

/// Shut down, crashed, starting up (57P0x), connection exceptions (08), completion unknown (40003).
fn is_connection_code(code: &str) -> bool {
    code.starts_with("57P0") || code.starts_with("08") || code == "40003"
}

/// Whether the work of one transaction may be slow or locked by itself; less patience fails, more may succeed.
pub(crate) fn is_held_up(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Busy(error) => is_conflict(error) || is_cut_off(error),
        DatabaseError::Deadline
        | DatabaseError::Unavailable(_)
        | DatabaseError::Defect(_)
        | DatabaseError::Unknown(_) => false,
    }
}

/// A statement took longer than `statement_timeout`.
pub(crate) fn is_cut_off(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.as_deref() == Some("57014")
}
