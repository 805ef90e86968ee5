//! The service's settings: read once, validated whole.

use chassis::config::{Check, CommonArgs, CommonConfig, ConfigProblems, Defaults};
use clap::Args;

/// Where the inventory service listens unless told otherwise.
pub const DEFAULTS: Defaults = Defaults { listen_addr: "127.0.0.1:8081", ops_listen_addr: "127.0.0.1:9081" };

/// The settings as the command line and the environment give them, unread.
#[derive(Args, Debug, Clone, Default)]
pub struct InventoryArgs {
    #[command(flatten)]
    pub common: CommonArgs,
}

impl AsRef<CommonArgs> for InventoryArgs {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

/// The settings, valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// What every service has.
    pub common: CommonConfig,
    /// SHA-256 of the settings, for the journal.
    pub hash: String,
}

impl AsRef<CommonConfig> for Config {
    fn as_ref(&self) -> &CommonConfig {
        &self.common
    }
}

impl Config {
    /// Reads and checks everything; the error lists all that is wrong.
    pub fn load(args: &InventoryArgs) -> Result<Self, ConfigProblems> {
        let mut check = Check::new();
        let common = CommonConfig::read(&args.common, DEFAULTS, &mut check);
        let hash = check.settings_hash();
        check.finish(|| Some(Self { common: common?, hash }))
    }
}
