//! One file per command.

mod doctor;
mod status;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The first port of the pair unless `--port-base` says otherwise.
pub(crate) const DEFAULT_PORT_BASE: u16 = 8080;

const EXAMPLES: &str = "\
Examples:
  mainstay doctor                      what this machine lacks, and the commands that mend it
  mainstay up                          start everything, print what to try next, stay until Ctrl-C
  mainstay up --data-dir ~/mainstay    the same, and keep the data between runs
  mainstay up --port-base 18080        order on 18080, inventory on 18081, operations on 19080 and 19081
  mainstay up --json > pair.json &     for scripts: one line when ready, with URLs, tokens, process ids
  mainstay status                      is it running, is it ready?

Both services are part of this command: `mainstay mainstay-order --help`, `mainstay mainstay-inventory --help`.";

/// Two small services, order and inventory, on this machine: start them, look at them, break them.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Status(status::Status),
    Doctor(doctor::Doctor),
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Up(up) => up.run().await,
            Command::Status(status) => status.run().await,
            Command::Doctor(doctor) => doctor.run().await,
        }
    }
}
