//! Meaning of PostgreSQL's error codes for the session, the server and the work.
//!
//! A row that fails concerns one request. A session that fails also fails every later request that gets it from the pool. One
//! table here tells the two apart.

/// State of the session that gave an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionState {
    /// The session answered and can be used again.
    Sound,
    /// The session has settings, plans, names or a failed transaction of an earlier time. It is closed, and a new session may
    /// succeed.
    Unfit,
    /// The server has ended the session.
    Ended,
}

/// Reach of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Another transaction was in the way. The same work may succeed later.
    Conflict,
    /// The server has no room for more work now.
    Busy,
    /// The server fails every request; the text completes "the database …".
    Server(&'static str),
    /// This work fails, or the schema that it needs is missing.
    Work,
}

/// State of the session and reach of the failure for an SQLSTATE.
pub(super) fn meaning(code: &str) -> (SessionState, Reach) {
    use Reach::{Busy, Conflict, Server, Work};
    use SessionState::{Ended, Sound, Unfit};
    match code {
        // Serialization failure, deadlock, lock_timeout.
        "40001" | "40P01" | "55P03" => (Sound, Conflict),
        // `default_transaction_read_only` is read when a session begins, so a session keeps it after it was reset.
        // A standby and a demoted primary answer the same.
        "25006" => (Unfit, Server("is read-only")),
        // State of the session that no longer fits:
        // * 25P02: its transaction has failed and was not rolled back;
        // * 26000: its prepared statements are gone: `DISCARD ALL`, a pooler, a failover behind one address;
        // * 0A000: "cached plan must not change result type": the schema has changed since a statement was prepared;
        // * 42P01, 42704, 42883, 3F000: tables, types, functions or schemas are not found: `search_path` as it was when the
        //   session began, or objects that were created anew, as by a restore;
        // * XX000: its caches no longer agree with the catalogue ("cache lookup failed for …").
        "25P02" | "26000" | "0A000" | "42P01" | "42704" | "42883" | "3F000" | "XX000" => (Unfit, Work),
        // A broken page or index entry concerns the rows on it.
        "XX001" | "XX002" => (Sound, Work),
        // The end of the session frees its memory.
        "53200" => (Unfit, Server("is out of memory")),
        "53100" => (Sound, Server("has no room left on its disk")),
        "53300" => (Sound, Busy),
        _ if code.starts_with("53") => (Sound, Server("lacks resources")),
        // statement_timeout, or an administrator's cancel.
        "57014" => (Sound, Busy),
        "57P02" | "57P03" => (Ended, Server("is shutting down or starting")),
        "57P04" => (Ended, Server("was dropped")),
        // An administrator, idle_session_timeout and later ones of that class; idle_in_transaction_session_timeout,
        // transaction_timeout.
        "25P03" | "25P04" => (Ended, Server("has ended the session")),
        _ if code.starts_with("57P") => (Ended, Server("has ended the session")),
        // Completion unknown; connection exceptions.
        "40003" => (Ended, Server("cannot be reached")),
        _ if code.starts_with("08") => (Ended, Server("cannot be reached")),
        "58030" => (Sound, Server("cannot read or write its files")),
        // No session can be opened; see `at_login`.
        _ if code.starts_with("28") => (Ended, Server("refuses this service's login")),
        "3D000" => (Ended, Server("does not exist")),
        _ => (Sound, Work),
    }
}

/// Reach of an error that answers a login. No work has begun, so no work is at fault.
pub(super) fn at_login(code: &str) -> Reach {
    match meaning(code) {
        (_, Reach::Work) => Reach::Server("refuses this service's login"),
        (_, Reach::Conflict) => Reach::Busy,
        (_, reach @ (Reach::Busy | Reach::Server(_))) => reach,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_one_row_leaves_its_session_sound() {
        // Out of range, not null, foreign key, unique, check, raised by a trigger, refused by a trigger, broken page.
        for code in ["22003", "23502", "23503", "23505", "23514", "P0001", "42501", "XX001", "54001"] {
            assert_eq!(meaning(code), (SessionState::Sound, Reach::Work), "{code}");
        }
    }

    #[test]
    fn a_session_of_an_earlier_time_is_unfit_or_ended() {
        for code in ["25006", "25P02", "26000", "0A000", "42P01", "3F000", "XX000"] {
            assert_eq!(meaning(code).0, SessionState::Unfit, "{code}");
        }
        for code in ["57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04", "08006", "40003"] {
            assert_eq!(meaning(code).0, SessionState::Ended, "{code}");
        }
    }

    #[test]
    fn a_refused_login_is_never_a_defect_of_the_request() {
        for code in ["28P01", "28000", "3D000", "42501", "57P03", "53200", "0A000"] {
            assert!(matches!(at_login(code), Reach::Server(_)), "{code}");
        }
        assert_eq!(at_login("53300"), Reach::Busy);
    }
}
