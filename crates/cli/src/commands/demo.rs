//! `mainstay`, without a command: the demo.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::replay::rate;
use crate::demo::Demo;

/// Options of the demo.
#[derive(Debug, Args)]
#[command(next_help_heading = "Demo")]
pub(super) struct DemoArgs {
    /// Replay this CSV file with the columns of UCI's Online Retail [default: generated orders]
    #[arg(long, value_name = "CSV")]
    file: Option<PathBuf>,
    /// Orders begun per second, 0.1 to 2000 [default: 40, or fewer so that a short file lasts]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Seed of the generated orders: the same seed gives the same orders
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "file")]
    seed: u64,
    /// Write the explained order's story as a swim-lane picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Leave the pair running afterwards, for `mainstay explain` and the others, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// With --keep: the first port of the pair
    #[arg(long, value_name = "N", requires = "keep", default_value_t = super::DEFAULT_PORT_BASE)]
    port_base: u16,
}

impl DemoArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let Self { file, rate, seed, svg, keep, port_base } = self;
        Demo { file, rate, seed, svg, keep: keep.then_some(port_base) }.run().await
    }
}
