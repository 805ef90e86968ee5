//! The commands, one file each.

mod doctor;
mod env;
mod explain;
mod next_step;
mod query;
mod replay;
mod status;
mod up;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::demo::Demo;

const EXAMPLES: &str = "\
Examples:
  mainstay                             the demo: 45 s of orders, with inventory failing in the middle of it
  mainstay doctor                      what this machine lacks, and the commands that fix it
  mainstay up                          start everything, print what to try next, stay until Ctrl-C
  mainstay up --data-dir ~/mainstay    the same, and keep the data between runs
  mainstay up --port-base 18080        order on 18080, inventory on 18081, operations on 19080 and 19081
  mainstay up --json > pair.json &     for scripts: one line when ready, with URLs, tokens, process ids
  mainstay status                      is it running, is it ready?
  eval \"$(mainstay env)\"               its URLs and tokens as shell variables, as the runbooks use them
  mainstay replay --rate 50            orders against it, generated or from a file
  mainstay explain ID                  what happened to an order, and why
  mainstay query verdict=bad           which requests failed, for whom, and why
  mainstay verify                      do both journals, all tables and all decisions agree?

Both services are part of this command: `mainstay mainstay-order --help`, `mainstay mainstay-inventory --help`.";

/// Two small services, order and inventory, on this machine: start, inspect and break them.
///
/// Without a command it runs the demo: a private PostgreSQL, both services, customers who order, and an inventory
/// service that meanwhile slows down, loses replies, is killed and starts again. At the end both journals are checked
/// and one of the orders is explained. Exit code 0 when every invariant holds and everything is resolved.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: Demo,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Status(status::Status),
    Env(env::Env),
    Replay(replay::ReplayArgs),
    Explain(explain::Explain),
    Query(query::Query),
    Verify(verify::Verify),
    Doctor(doctor::Doctor),
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let Some(command) = self.command else { return self.demo.run().await };
        match command {
            Command::Up(up) => up.run().await,
            Command::Status(status) => status.run().await,
            Command::Env(env) => env.run(),
            Command::Replay(replay) => replay.run().await,
            Command::Explain(explain) => explain.run().await,
            Command::Query(query) => query.run().await,
            Command::Verify(verify) => verify.run().await,
            Command::Doctor(doctor) => doctor.run().await,
        }
    }
}
