//! Benchmark of the pair under overload from badly behaved clients, which retry at once and ignore `Retry-After`.
//!
//! It measures the useful work during the overload and the time until the pair is normal again.

mod figures;
mod load;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    pair_benches::as_service().unwrap_or_else(run::main)
}
