//! The pair on one machine with nothing prepared: a private PostgreSQL, its roles and databases, and the two services
//! as supervised child processes.
//!
//! No process started here outlives the process that started it, even when that process is killed with `kill -9`:
//! every child watches a pipe that only its parent holds open. No unsafe code, no daemon.

mod account;
pub mod child;
pub mod disk;
pub mod pair;
pub mod ports;
pub mod postgres;
pub mod private;
pub mod provision;
mod secret;
pub mod system;
pub mod temporary;

pub use child::{Child, ChildEvent, ChildSpec};
pub use pair::{PairError, PairOptions, RunningPair};
pub use postgres::{Postgres, PostgresError, PostgresOptions};
pub use provision::Service;
pub use secret::Secret;
pub use temporary::TemporaryDirectory;
