//! The settings of the inventory service. They are read once, at the start, and checked together: one error lists every
//! fault.

use chassis::config::{
    Check, CommonArgs, CommonConfig, ConfigProblems, Defaults, ProcessArgs, ProcessConfig,
};
use clap::Args;

/// Default addresses of the two listeners: public and operations.
pub const DEFAULTS: Defaults = Defaults { listen_addr: "127.0.0.1:8081", ops_listen_addr: "127.0.0.1:9081" };

/// The settings as text, from the command line and the environment; not yet checked.
#[derive(Args, Debug, Clone, Default)]
pub struct InventoryArgs {
    #[command(flatten)]
    pub common: CommonArgs,
}

impl AsRef<ProcessArgs> for InventoryArgs {
    fn as_ref(&self) -> &ProcessArgs {
        &self.common.process
    }
}

/// The checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The settings that every service has.
    pub common: CommonConfig,
    /// SHA-256 of the settings. Each journal entry has it.
    pub hash: String,
}

impl AsRef<ProcessConfig> for Config {
    fn as_ref(&self) -> &ProcessConfig {
        &self.common.process
    }
}

impl Config {
    /// Reads and checks all settings.
    ///
    /// # Errors
    /// The list of all faults.
    pub fn load(args: &InventoryArgs) -> Result<Self, ConfigProblems> {
        let mut check = Check::new();
        let common = CommonConfig::read(&args.common, DEFAULTS, &mut check);
        let hash = check.settings_hash();
        check.finish(|| Some(Self { common: common?, hash }))
    }
}
