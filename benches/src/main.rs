//! Orders per second of the pair, beside a control that does the same SQL and nothing else.

mod control;
mod cpu;
mod load;
mod run;
mod variant;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The services and the control run as processes of this same program.
    let mut args = std::env::args_os();
    let own = args.next();
    let rest = || own.clone().into_iter().chain(std::env::args_os().skip(2));
    match args.next().as_deref().and_then(|name| name.to_str()) {
        Some("mainstay-order") => order_service::run(rest()),
        Some("mainstay-inventory") => inventory_service::run(rest()),
        Some("control-order") => control::order::main(),
        Some("control-inventory") => control::inventory::main(),
        _ => run::main(),
    }
}
