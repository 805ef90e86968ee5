//! The settings of the order service. They are read once, at the start, and checked together: one error lists every fault.

use chassis::Secret;
use chassis::config::{
    Check, CommonArgs, CommonConfig, ConfigProblems, Defaults, ProcessArgs, ProcessConfig, setting,
};
use clap::Args;

/// Default addresses of the two listeners: public and operations.
pub const DEFAULTS: Defaults = Defaults { listen_addr: "127.0.0.1:8080", ops_listen_addr: "127.0.0.1:9080" };

/// The settings as text, from the command line and the environment; not yet checked.
#[derive(Args, Debug, Clone, Default)]
pub struct OrderArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    /// Base URL of the inventory service, as `http://host:port`
    #[arg(long, env = "INVENTORY_URL", global = true, value_name = "URL")]
    pub inventory_url: Option<String>,
    /// A file that holds the token for inventory, and nothing else
    #[arg(long, env = "INVENTORY_TOKEN_FILE", global = true, value_name = "PATH")]
    pub inventory_token_file: Option<String>,
    /// Length of the hold on an order's stock that inventory is asked for, 1 to 86400 [default: 900]
    #[arg(long, env = "HOLD_SECONDS", global = true, value_name = "SECONDS")]
    pub hold_seconds: Option<String>,
}

impl AsRef<ProcessArgs> for OrderArgs {
    fn as_ref(&self) -> &ProcessArgs {
        &self.common.process
    }
}

/// The checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The settings that every service has.
    pub common: CommonConfig,
    /// The value of `INVENTORY_URL`: the base URL of the inventory service.
    pub inventory_url: String,
    /// The content of the file `INVENTORY_TOKEN_FILE`: the token for the inventory service.
    pub inventory_token: Secret,
    /// The value of `HOLD_SECONDS`: length of the hold on an order's stock, in seconds. The default is fifteen minutes: long
    /// enough to pay, and short enough that the next customer can have the stock.
    pub hold_seconds: i64,
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
    pub fn load(args: &OrderArgs) -> Result<Self, ConfigProblems> {
        let mut check = Check::new();
        let common = CommonConfig::read(&args.common, DEFAULTS, &mut check);
        let inventory_url = check.required("INVENTORY_URL", args.inventory_url.as_deref(), setting::http_url);
        let inventory_token = check.secret_file("INVENTORY_TOKEN_FILE", args.inventory_token_file.as_deref());
        let hold_seconds = check
            .or("HOLD_SECONDS", args.hold_seconds.as_deref(), "900", |text| setting::whole(text, 1..=86_400));
        let hash = check.settings_hash();
        check.finish(|| {
            Some(Self {
                common: common?,
                inventory_url: inventory_url?,
                inventory_token: inventory_token?,
                hold_seconds: hold_seconds?,
                hash,
            })
        })
    }
}
