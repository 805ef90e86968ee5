//! Settings from environment variables and flags of the same name (flags win), read once and validated whole.
//!
//! [`CommonArgs`] is flattened into a service's command line; the service's own `Config::load` runs a [`Check`]
//! over the common settings and its own, so that one message lists everything that is wrong.

mod check;
mod common;
pub mod setting;

pub use check::{Check, ConfigProblems};
pub use common::{CommonArgs, CommonConfig, Defaults};

/// The exit code of a process that was configured wrongly.
pub const EXIT_CONFIG: u8 = 2;

/// The source revision this was built from, when the build was told (`MAINSTAY_REVISION`).
pub const REVISION: &str = match option_env!("MAINSTAY_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
