//! The program of both services. The first argument names the service.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    match args.peek().and_then(|name| name.to_str()) {
        Some("mainstay-order") => order_service::run(&mut args),
        Some("mainstay-inventory") => inventory_service::run(&mut args),
        _ => {
            eprintln!("usage: pair mainstay-order|mainstay-inventory ...");
            ExitCode::FAILURE
        }
    }
}
