//! The pair under more load than it can serve, from clients that do everything wrong: they try again at once, without
//! waiting, whatever they were told. How much of the work is still useful, and how soon is all well again?

mod figures;
mod load;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    pair_benches::as_service().unwrap_or_else(run::main)
}
