//! Settings from environment variables and from flags of the same name. Flags win. They are read once, at the start.
//!
//! A service flattens [`ProcessArgs`] or, with a database and tokens, `CommonArgs` into its command line. The service's
//! `Config::load` runs one [`Check`] over all settings, so that one message lists every fault.

mod check;
#[cfg(feature = "service")]
mod common;
mod process;
pub mod setting;

pub use check::{Check, ConfigProblems};
#[cfg(feature = "service")]
pub use common::{CommonArgs, CommonConfig};
pub use process::{Defaults, ProcessArgs, ProcessConfig};

/// Exit code of a process whose configuration has a fault.
pub const EXIT_CONFIG: u8 = 2;

/// Source revision of this build, from `MAINSTAY_REVISION` of the build's environment.
pub const REVISION: &str = match option_env!("MAINSTAY_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
