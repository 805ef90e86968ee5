//! Benchmark of orders per second: the pair beside a control that executes the same SQL without the middleware.

mod control;
mod cpu;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(ended) = pair_benches::as_service() {
        return ended;
    }
    match std::env::args().nth(1).as_deref() {
        Some("control-order") => control::order::main(),
        Some("control-inventory") => control::inventory::main(),
        _ => run::main(),
    }
}
