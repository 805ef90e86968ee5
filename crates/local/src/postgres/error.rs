use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reasons why no PostgreSQL runs. Where the reader can do something, the message says what.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error("no PostgreSQL {wanted} server found (looked in {looked_in}). Install one: {install}")]
    NotInstalled { wanted: String, looked_in: String, install: &'static str },
    #[error(
        "PostgreSQL does not run as root and there is no user `postgres` to run it as. \
         Create it with `useradd --system postgres`, or run this as an ordinary user"
    )]
    NoUnprivilegedUser,
    #[error("port {port} on 127.0.0.1 is in use; stop the program that listens there or choose another port")]
    PortInUse { port: u16 },
    #[error("the disk that holds {} is full; free some space or choose another directory", path.display())]
    DiskFull { path: PathBuf },
    #[error(
        "permission denied at {}: the user that runs PostgreSQL ({user}) must own this directory and be able to \
         enter those above it; choose another directory. The server said: {said}", path.display()
    )]
    PermissionDenied { path: PathBuf, user: &'static str, said: String },
    #[error("{} is in use by another PostgreSQL (process {pid}); stop it or choose another directory", path.display())]
    DirectoryInUse { path: PathBuf, pid: u32 },
    #[error("PostgreSQL stopped while starting. The end of its log:\n{log}")]
    Died { log: String },
    #[error("PostgreSQL was not ready within {within:?} ({last}). The end of its log:\n{log}")]
    NotReady { within: Duration, last: String, log: String },
    #[error("PostgreSQL did not stop within {within:?} and was killed; its next start will recover")]
    NotStopped { within: Duration },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl PostgresError {
    /// An operating system's error at a path, in plain words when it is a common one.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull => Self::DiskFull { path: path.to_owned() },
            io::ErrorKind::PermissionDenied => {
                Self::PermissionDenied { path: path.to_owned(), user: "you", said: source.to_string() }
            }
            _ => Self::Io { path: path.to_owned(), source },
        }
    }

    /// The reason why the server, or `initdb`, ended, from the last lines of its log.
    pub(crate) fn from_log(log: String, directory: &Path, port: u16, as_postgres: bool) -> Self {
        let path = directory.to_owned();
        if log.contains("No space left on device") {
            Self::DiskFull { path }
        } else if log.contains("Address already in use") {
            Self::PortInUse { port }
        } else if log.contains("ermission denied") {
            Self::PermissionDenied { path, user: if as_postgres { "postgres" } else { "you" }, said: log }
        } else {
            Self::Died { log }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(log: &str) -> PostgresError {
        PostgresError::from_log(log.to_owned(), Path::new("/data"), 5432, true)
    }

    #[test]
    fn the_common_causes_are_recognised_in_a_log() {
        assert!(matches!(
            from("FATAL:  could not write lock file \"postmaster.pid\": No space left on device"),
            PostgresError::DiskFull { .. }
        ));
        assert!(matches!(
            from("LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use"),
            PostgresError::PortInUse { port: 5432 }
        ));
        assert!(matches!(
            from("initdb: error: could not access directory \"/data\": Permission denied"),
            PostgresError::PermissionDenied { user: "postgres", .. }
        ));
        let other = from("FATAL:  unrecognized configuration parameter \"colour\"");
        assert!(other.to_string().contains("unrecognized configuration parameter"), "{other}");
    }
}
