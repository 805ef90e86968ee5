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

/// The source revision of this build: the value of `MAINSTAY_REVISION` at build time, or the commit of the clone in which a
/// release build ran. `unknown` for a debug build, which would otherwise be compiled again after each commit.
pub const REVISION: &str = env!("MAINSTAY_REVISION");
