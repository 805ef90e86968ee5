use std::path::PathBuf;
use std::time::Duration;

use crate::disk::free_bytes;

/// The free memory that a test run's cluster needs: with its write-ahead log and some hundred small databases it
/// stays below this.
const ROOM_IN_MEMORY: u64 = 1 << 30;

/// Options of a private server.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The directory of `initdb` and `postgres`; `None` looks in the usual places.
    pub binaries: Option<PathBuf>,
    pub location: DataLocation,
    /// True if the server calls `fsync`. Without it the server is several times faster, and a crash of the machine
    /// (not of the server alone) loses the cluster.
    pub fsync: bool,
    /// The port that the server must have; `None` draws a free one.
    pub port: Option<u16>,
    pub max_connections: u16,
    /// Further `name = value` pairs of the server's configuration. They override those that this crate sets.
    pub settings: Vec<(String, String)>,
    /// The longest time for a start, crash recovery included. Default: 1 minute.
    pub ready_within: Duration,
}

/// The location of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataLocation {
    /// In `postgres` below this directory, which is kept.
    Kept(PathBuf),
    /// Below a new directory in this one, which is removed at the end.
    TemporaryIn(PathBuf),
}

impl PostgresOptions {
    /// A cluster in a directory that is kept. `directory` gets a `postgres` subdirectory that belongs to the server.
    pub fn kept(directory: impl Into<PathBuf>) -> Self {
        Self::at(DataLocation::Kept(directory.into()))
    }

    /// A cluster in the system's temporary directory, removed at the end, with the durability of a real one.
    pub fn temporary() -> Self {
        Self::at(DataLocation::TemporaryIn(std::env::temp_dir()))
    }

    /// A cluster for one test run: removed at the end, in memory (`/dev/shm`) when 1 GiB is free there, no fsync, 400
    /// connections.
    pub fn for_tests() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let has_room = free_bytes(&memory).is_some_and(|free| free >= ROOM_IN_MEMORY);
        let parent = if has_room { memory } else { std::env::temp_dir() };
        Self { fsync: false, max_connections: 400, ..Self::at(DataLocation::TemporaryIn(parent)) }
    }

    fn at(location: DataLocation) -> Self {
        Self {
            binaries: None,
            location,
            fsync: true,
            port: None,
            max_connections: 100,
            settings: Vec::new(),
            ready_within: Duration::from_mins(1),
        }
    }

    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn temporary_parent(&self) -> Option<PathBuf> {
        match &self.location {
            DataLocation::TemporaryIn(parent) => Some(parent.clone()),
            DataLocation::Kept(_) => None,
        }
    }

    pub(super) fn kept_directory(&self) -> PathBuf {
        let (DataLocation::Kept(path) | DataLocation::TemporaryIn(path)) = &self.location;
        path.clone()
    }
}
